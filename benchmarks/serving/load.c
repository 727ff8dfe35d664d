/* A load generator that is not the bottleneck: HTTP/1.1 and gRPC over HTTP/2, closed and open loop, one thread.
 *
 *     load http|grpc PORT CONNECTIONS SECONDS RATE REQUESTS-FILE
 *
 * RATE 0 is a closed loop: each connection sends its next request when the answer is there. Otherwise requests are
 * due at exponential gaps of mean 1/RATE and latency counts from the due time, waiting for a connection included.
 * The file holds records (4-byte little-endian length, bytes): whole requests for HTTP; for gRPC first the header
 * block of a connection's first request, then that of the others, then framed messages. Prints one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef struct { const uint8_t *data; size_t size; } Record;
typedef struct {
    int fd, busy, headers_sent, writable_wanted;
    double due;
    uint8_t *out; size_t out_size, out_sent, out_room;
    uint8_t *in; size_t in_size, in_room;
    const Record *message; size_t message_sent, answered;
    uint32_t stream, peer_initial, peer_frame;
    int64_t connection_window, stream_window;
} Connection;

static Record *records; static size_t record_count, next_record;
static int http, poller; static double rate;
static float *latencies; static size_t latency_count, latency_room;
static uint64_t errors;
static struct sockaddr_in address;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static void die(const char *what) { perror(what); exit(1); }

static void put(Connection *c, const void *data, size_t size) {
    if (c->out_sent == c->out_size) c->out_sent = c->out_size = 0;
    if (c->out_size + size > c->out_room) {
        c->out_room = (c->out_size + size) * 2;
        if (!(c->out = realloc(c->out, c->out_room))) die("memory");
    }
    memcpy(c->out + c->out_size, data, size);
    c->out_size += size;
}

static void frame(Connection *c, int type, int flags, uint32_t stream, const void *data, size_t size) {
    uint8_t head[9] = {size >> 16, size >> 8, size, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    put(c, head, 9);
    put(c, data, size);
}

static void flush(Connection *c) {
    while (c->out_sent < c->out_size) {
        ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_size - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0) { if (errno == EAGAIN) break; return; }
        c->out_sent += sent;
    }
    int wanted = c->out_sent < c->out_size;
    if (wanted != c->writable_wanted) {
        struct epoll_event e = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
        c->writable_wanted = wanted;
    }
}

/* Put as much of the message on the wire as the two HTTP/2 windows allow. */
static void pump(Connection *c) {
    while (c->busy && c->message_sent < c->message->size) {
        int64_t size = c->message->size - c->message_sent;
        if (size > c->peer_frame) size = c->peer_frame;
        if (size > c->connection_window) size = c->connection_window;
        if (size > c->stream_window) size = c->stream_window;
        if (size <= 0) return;
        int last = c->message_sent + size == c->message->size;
        frame(c, 0, last, c->stream, c->message->data + c->message_sent, size);
        c->message_sent += size; c->connection_window -= size; c->stream_window -= size;
    }
}

static void open_connection(Connection *c) {
    int one = 1;
    if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->busy = c->headers_sent = c->writable_wanted = 0;
    c->out_size = c->out_sent = c->in_size = 0;
    c->stream = 1; c->peer_initial = 65535; c->peer_frame = 16384; c->connection_window = 65535;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    if (!http) {
        static const uint8_t settings[12] = {0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff};
        static const uint8_t window[4] = {0x7f, 0xff, 0, 0};
        put(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
        frame(c, 4, 0, 0, settings, sizeof settings);
        frame(c, 8, 0, 0, window, sizeof window);
    }
}

static void begin(Connection *c, double due) {
    c->busy = 1; c->due = due; c->answered = 0;
    size_t first = http ? 0 : 2;
    const Record *record = &records[first + next_record++ % (record_count - first)];
    if (http) put(c, record->data, record->size);
    else {
        const Record *head = &records[c->headers_sent ? 1 : 0];
        frame(c, 1, 4, c->stream, head->data, head->size);
        c->headers_sent = 1;
        c->message = record; c->message_sent = 0; c->stream_window = c->peer_initial;
        pump(c);
    }
    flush(c);
}

static void done(Connection *c, int good) {
    c->busy = 0; c->stream += 2;
    if (!good) { errors++; return; }
    if (latency_count == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 65536;
        if (!(latencies = realloc(latencies, latency_room * sizeof *latencies))) die("memory");
    }
    latencies[latency_count++] = (float)((now() - c->due) * 1e6);
}

/* Return the bytes of one whole HTTP answer at the start of the buffer, 0 if more must come. */
static size_t http_answer(Connection *c, int *good) {
    uint8_t *end = memmem(c->in, c->in_size, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = end - c->in + 4, length = 0; int chunked = 0;
    *good = c->in_size > 12 && !memcmp(c->in + 9, "200", 3);
    for (uint8_t *line = c->in; line < end; ) {
        uint8_t *next = memmem(line, c->in + head - line, "\r\n", 2);
        if (!strncasecmp((char *)line, "content-length:", 15)) length = strtoul((char *)line + 15, NULL, 10);
        if (!strncasecmp((char *)line, "transfer-encoding:", 18)) chunked = 1;
        line = next + 2;
    }
    if (chunked) return c->in_size >= head + 5 && !memcmp(c->in + c->in_size - 5, "0\r\n\r\n", 5) ? c->in_size : 0;
    return c->in_size >= head + length ? head + length : 0;
}

static uint32_t word(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

/* Take one HTTP/2 frame off the buffer; returns its bytes (0: incomplete). A call is good if a message came. */
static size_t grpc_frame(Connection *c, int *ended, int *good) {
    if (c->in_size < 9) return 0;
    size_t size = (size_t)c->in[0] << 16 | c->in[1] << 8 | c->in[2];
    int type = c->in[3], flags = c->in[4];
    uint32_t stream = word(c->in + 5) & 0x7fffffff;
    const uint8_t *body = c->in + 9;
    if (c->in_size < 9 + size) return 0;
    int mine = c->busy && stream == c->stream;
    if (type == 0 && mine) c->answered += size;
    if ((type == 0 || type == 1) && mine && (flags & 1)) { *ended = 1; *good = c->answered > 5; }
    if (type == 3 && mine) { *ended = 1; *good = 0; }
    if (type == 4 && !(flags & 1)) {
        for (size_t at = 0; at + 6 <= size; at += 6) {
            uint32_t value = word(body + at + 2);
            int id = body[at] << 8 | body[at + 1];
            if (id == 4) { c->stream_window += (int64_t)value - c->peer_initial; c->peer_initial = value; }
            if (id == 5) c->peer_frame = value > 65536 ? 65536 : value;
        }
        frame(c, 4, 1, 0, "", 0);
    }
    if (type == 6 && !(flags & 1)) frame(c, 6, 1, 0, body, 8);
    if (type == 8) { if (!stream) c->connection_window += word(body); else if (mine) c->stream_window += word(body); }
    return 9 + size;
}

/* Read what is there; returns 1 if the connection became free. */
static int receive(Connection *c) {
    for (;;) {
        if (c->in_room - c->in_size < 65536) {
            c->in_room = c->in_room ? c->in_room * 2 : 131072;
            if (!(c->in = realloc(c->in, c->in_room))) die("memory");
        }
        ssize_t got = recv(c->fd, c->in + c->in_size, c->in_room - c->in_size, 0);
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
            int busy = c->busy;
            errors += busy;
            close(c->fd);
            open_connection(c);
            return busy;
        }
        c->in_size += got;
        if ((size_t)got < 65536) break;
    }
    int freed = 0;
    while (c->in_size) {
        int good = 0, ended = http;
        size_t used = http ? http_answer(c, &good) : grpc_frame(c, &ended, &good);
        if (!used) break;
        memmove(c->in, c->in + used, c->in_size - used);
        c->in_size -= used;
        if (ended && c->busy) { done(c, good); freed = 1; }
    }
    if (!http) { pump(c); flush(c); }
    return freed;
}

static int ascending(const void *a, const void *b) { float x = *(float *)a, y = *(float *)b; return (x > y) - (x < y); }
static double quantile(double share) { return latency_count ? latencies[(size_t)(share * (latency_count - 1))] : 0.0; }

int main(int count, char **argument) {
    if (count != 7) { fputs("load http|grpc PORT CONNECTIONS SECONDS RATE FILE\n", stderr); return 2; }
    http = !strcmp(argument[1], "http");
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argument[2]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int connections = atoi(argument[3]);
    double seconds = atof(argument[4]);
    rate = atof(argument[5]);

    FILE *file = fopen(argument[6], "rb");
    if (!file) die(argument[6]);
    fseek(file, 0, SEEK_END);
    size_t size = ftell(file);
    rewind(file);
    uint8_t *data = malloc(size);
    if (fread(data, 1, size, file) != size) die("read");
    for (size_t at = 0; at + 4 <= size; ) {
        uint32_t length; memcpy(&length, data + at, 4);
        records = realloc(records, (record_count + 1) * sizeof *records);
        records[record_count++] = (Record){data + at + 4, length};
        at += 4 + length;
    }

    poller = epoll_create1(0);
    Connection *all = calloc(connections, sizeof *all);
    Connection **idle = malloc(connections * sizeof *idle); int idle_count = 0;
    for (int i = 0; i < connections; i++) { open_connection(&all[i]); if (!http) flush(&all[i]); }
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event te = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &te);
    srand48(1);
    double start = now(), end = start + seconds, due = start, last = start;
    double *waiting = NULL; size_t waiting_count = 0, waiting_first = 0, waiting_room = 0;
    for (int i = connections - 1; i >= 0; i--) { if (rate > 0) idle[idle_count++] = &all[i]; else begin(&all[i], now()); }

    struct epoll_event events[256];
    for (;;) {
        double t = now();
        if (t >= end) {
            int busy = waiting_count > waiting_first;
            for (int i = 0; i < connections; i++) busy |= all[i].busy;
            if (!busy || t > end + 5) break;
        }
        int wait = 20;
        if (rate > 0) {
            while (due <= t && due < end) {
                if (waiting_count == waiting_room) {
                    waiting_room = waiting_room ? waiting_room * 2 : 4096;
                    waiting = realloc(waiting, waiting_room * sizeof *waiting);
                }
                waiting[waiting_count++] = due;
                due += -log(1 - drand48()) / rate;
            }
            while (idle_count && waiting_first < waiting_count) begin(idle[--idle_count], waiting[waiting_first++]);
            if (due < end) {
                struct itimerspec s = {.it_value = {(time_t)due, (long)((due - (time_t)due) * 1e9)}};
                timerfd_settime(timer, TFD_TIMER_ABSTIME, &s, NULL);
            }
        }
        int ready = epoll_wait(poller, events, 256, wait);
        for (int i = 0; i < ready; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) { uint64_t ticks; if (read(timer, &ticks, 8) < 0) continue; continue; }
            if (events[i].events & EPOLLOUT) flush(c);
            if ((events[i].events & ~EPOLLOUT) && receive(c)) {
                last = now();
                if (rate > 0) idle[idle_count++] = c;
                else if (last < end) begin(c, last);
            }
        }
    }
    uint64_t unanswered = waiting_count - waiting_first;
    for (int i = 0; i < connections; i++) unanswered += all[i].busy;
    struct rusage used; getrusage(RUSAGE_SELF, &used);
    qsort(latencies, latency_count, sizeof *latencies, ascending);
    printf("{\"answers\": %zu, \"errors\": %llu, \"unanswered\": %llu, \"seconds\": %.4f, \"p50_us\": %.1f, \"p90_us\": %.1f, "
           "\"p99_us\": %.1f, \"max_us\": %.1f, \"client_cpu_s\": %.3f}\n",
           latency_count, (unsigned long long)errors, (unsigned long long)unanswered, last - start, quantile(0.5),
           quantile(0.9), quantile(0.99), quantile(1.0),
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
    return 0;
}
