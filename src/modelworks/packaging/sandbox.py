"""What a child gives up before it touches foreign bytes: memory, time, files, network, programs, privileges.

Three layers. ``setrlimit`` bounds memory, CPU and files everywhere. On Linux a seccomp filter (BPF, see
``seccomp(2)``) refuses sockets, programs, new processes and every way to open or change a file. Where the
kernel allows it, a private network namespace takes away even the loopback device.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
RETURN_ALLOW = 0x7FFF0000
RETURN_EPERM = 0x00050000 | 1
RETURN_KILL = 0x80000000
LOAD_WORD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

DENIED: dict[str, tuple[int, int]] = {
    # sockets; one connected socket is open already, so sending stays allowed
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # programs and processes
    "clone": (56, 220), "clone3": (435, 435), "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221),
    "execveat": (322, 281), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "unshare": (272, 97), "setns": (308, 268),
    # files
    "open": (2, -1), "creat": (85, -1), "openat": (257, 56), "openat2": (437, 437),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "truncate": (76, 45),
    "ftruncate": (77, 46), "rename": (82, -1), "renameat": (264, 38), "renameat2": (316, 276),
    "mkdir": (83, -1), "mkdirat": (258, 34), "rmdir": (84, -1), "unlink": (87, -1), "unlinkat": (263, 35),
    "link": (86, -1), "linkat": (265, 37), "symlink": (88, -1), "symlinkat": (266, 36), "mknod": (133, -1),
    "mknodat": (259, 33), "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54), "utimensat": (280, 88),
    "memfd_create": (319, 279), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195),
    # the machine
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "seccomp": (317, 277), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
}  # fmt: skip
"""System calls a child has no use for and their numbers on x86_64 and aarch64 (-1: not there); each answers
"operation not permitted"."""


def limit_memory(bytes_more: int) -> None:
    """Bound the address space to what is mapped now and ``bytes_more``."""
    mapped = _mapped_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + bytes_more, mapped + bytes_more))


def limit_process(cpu_s: int) -> None:
    """Bound CPU-seconds, file size and open files; no core dumps."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def leave_network() -> bool:
    """Move into an empty network namespace; returns whether the kernel allowed it."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    clone_newuser, clone_newnet = 0x10000000, 0x40000000
    return bool(library.unshare(clone_newuser | clone_newnet) == 0)


def forbid_system_calls() -> bool:
    """Refuse the system calls in ``DENIED`` from now on; returns whether the kernel took the filter."""
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in AUDIT_ARCH:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    program = _filter(machine)
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    handle = Program(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    return bool(library.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(handle), 0, 0) == 0)


def _filter(machine: str) -> bytes:
    """Return the BPF program: wrong machine -> kill; denied call -> EPERM; else allow."""
    column = list(AUDIT_ARCH).index(machine)
    calls = sorted({numbers[column] for numbers in DENIED.values()} - {-1})
    lines: list[tuple[int, int, int, int]] = [
        (LOAD_WORD, 0, 0, 4),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, RETURN_KILL),
        (LOAD_WORD, 0, 0, 0),
    ]
    if machine == "x86_64":
        lines += [(JUMP_AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, RETURN_KILL)]
    lines += [(JUMP_EQUAL, len(calls) - index, 0, call) for index, call in enumerate(calls)]
    lines += [(RETURN, 0, 0, RETURN_ALLOW), (RETURN, 0, 0, RETURN_EPERM)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _mapped_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123 - cheapest call in a fresh child
            return int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 2**30
