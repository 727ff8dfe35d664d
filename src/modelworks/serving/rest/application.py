"""Routes and the one gate in front of them: host, origin, token, role; default deny."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from modelworks.core.errors import ModelworksError
from modelworks.serving.access import ANYBODY, Access, Principal
from modelworks.serving.errors import Forbidden, UnknownModel
from modelworks.serving.rest import coding
from modelworks.serving.rest.message import Exchange, Head, Response, new_id, request_id, sent_id
from modelworks.serving.rest.statuses import BUSY, UNREAD, bare_error, error_response, unread

_log = logging.getLogger("modelworks.serving")

POLICIES = ("open", "any", "infer", "monitor", "admin")

_ANY_LENGTH = 2**62

Answered = Response | Awaitable[Response] | None


@dataclass(eq=False, slots=True)
class Call:
    """A request that passed the gate.

    Attributes:
        exchange: The request and the way to answer it.
        principal: Who asks.
        arguments: Named parts of the path.
        id: Request id, sent back in ``x-request-id``.
    """

    exchange: Exchange
    principal: Principal
    arguments: dict[str, str]
    id: str

    @property
    def head(self) -> Head:
        return self.exchange.head

    @property
    def body(self) -> bytes:
        return self.exchange.body


Handler = Callable[[Call], Answered]
AccessLog = Callable[[Call, Response], None]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route; there is none without a policy.

    Attributes:
        method: HTTP method.
        pattern: Path with ``{name}`` parts.
        policy: ``open`` (no token), ``any`` (any token), or the role it takes.
        handler: Returns the response, an awaitable of it, or ``None`` if it answers the exchange itself later.
        body_bytes: Longest body.
        summary: One line for the OpenAPI document.
        media: Media type of the answer.
    """

    method: str
    pattern: str
    policy: str
    handler: Handler
    body_bytes: int = 64 * 1024
    summary: str = ""
    media: str = "application/json"

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise AssertionError(f"route {self.pattern} has no policy")

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the named parts if the path fits."""
        parts = self.pattern.split("/")[1:]
        if len(parts) != len(segments):
            return None
        found = {}
        for part, segment in zip(parts, segments, strict=True):
            if part.startswith("{"):
                if not segment:
                    return None
                found[part[1:-1]] = segment
            elif part != segment:
                return None
        return found


@dataclass(eq=False, slots=True)
class Plan:
    """What was decided about a head: the handler to call, or the refusal."""

    handler: Handler | None
    principal: Principal
    arguments: dict[str, str]
    body_bytes: int
    refusal: ModelworksError | None = None
    method_refused: tuple[str, ...] = ()
    cors: str | None = None
    sent_id: str | None = None


class Application:
    """Takes exchanges from a carrier to the handlers of the routes.

    Args:
        access: Tokens, hosts, origins.
        log: Called with every answered request, for the access log.

    Attributes:
        errors: Error code -> answers that are this error, those that no model was asked for included.
    """

    def __init__(self, access: Access, log: AccessLog | None = None) -> None:
        self.access = access
        self.routes: list[Route] = []
        self.log = log
        self.errors: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, *routes: Route) -> None:
        """Add routes; the first that matches answers."""
        self.routes.extend(routes)

    # -- the carrier's side ------------------------------------------------------------------------------------

    def refuse(self, head: Head) -> Response | None:
        """Decide on a head before its body is read."""
        plan = self._plan(head)
        if plan.refusal is not None:
            self.errors[plan.refusal.error_code] += 1
            return error_response(plan.refusal, request_id(head))
        if plan.method_refused:
            return self._wrong_method(plan)
        return None

    def body_limit(self, head: Head) -> int:
        """Return the longest body of such a request; what is refused anyway is refused for its own reason."""
        plan: Plan = head.plan if head.generation == self.access.generation else self._plan(head)
        return plan.body_bytes if plan.handler is not None else _ANY_LENGTH

    def malformed(self, status: int, reason: str) -> Response:
        """Return the answer to bytes that are no request."""
        response = unread(status, reason)
        self.errors[UNREAD if response.headers == () else BUSY] += 1
        return response

    def handle(self, exchange: Exchange) -> None:
        """Answer an exchange."""
        head = exchange.head
        plan: Plan = head.plan if head.generation == self.access.generation else self._plan(head)
        principal, handler = plan.principal, plan.handler
        call = Call(exchange, principal, plan.arguments, plan.sent_id or new_id())
        if handler is None:
            if plan.refusal is not None:
                # Not raised: an exception that is raised again and again keeps every trace.
                self.fail(call, plan.refusal)
            else:
                self._refuse_method(call, plan)
            return
        try:
            if principal.bucket is not None:
                principal.bucket.take()
            answered = handler(call)
        except Exception as error:
            self.fail(call, error)
            return
        if answered is None:
            return
        if isinstance(answered, Response):
            self.reply(call, answered)
            return
        task = asyncio.ensure_future(self._finish(call, answered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if asyncio.iscoroutine(answered):
            # A client that is gone before the task began leaves the handler's coroutine unstarted.
            task.add_done_callback(lambda _: answered.close())
        exchange.on_gone = task.cancel

    async def _finish(self, call: Call, answered: Awaitable[Response]) -> None:
        try:
            response = await answered
        except Exception as error:
            self.fail(call, error)
        else:
            self.reply(call, response)

    def send(self, call: Call, response: Response) -> None:
        """Send an answer, compressed if it is long and the client takes that."""
        wanted = None
        if len(response.body) >= coding.COMPRESS_FROM:
            wanted = coding.accepted(call.head.headers.get("accept-encoding"))
        if wanted is None:
            self.reply(call, response)
            return
        response.headers = (*response.headers, (b"content-encoding", wanted.encode()))
        if len(response.body) < coding.THREAD_FROM:
            response.body = coding.compress(response.body, wanted)
            self.reply(call, response)
            return

        def go_on(done: asyncio.Future[bytes]) -> None:
            response.body = done.result()
            self.reply(call, response)

        future = asyncio.get_running_loop().run_in_executor(None, coding.compress, response.body, wanted)
        future.add_done_callback(go_on)

    def reply(self, call: Call, response: Response) -> None:
        """Send an answer and log it."""
        plan: Plan = call.exchange.head.plan
        if plan.cors is not None:
            response.headers = (
                *response.headers,
                (b"access-control-allow-origin", plan.cors.encode("latin-1")),
                (
                    b"access-control-expose-headers",
                    b"inference-header-content-length, retry-after, x-request-id",
                ),
                (b"vary", b"origin"),
            )
        response.id = call.id.encode("ascii")
        call.exchange.reply(response)
        if self.log is not None:
            self.log(call, response)

    def fail(self, call: Call, error: Exception) -> None:
        """Send an error in the protocol's shape; the unexpected is logged with its trace and told without it."""
        if isinstance(error, ModelworksError):
            self.errors[error.error_code] += 1
        else:
            self.errors["MW5000"] += 1
            _log.error("request %s failed", call.id, exc_info=error)
        self.reply(call, error_response(error, call.id))

    # -- planning ----------------------------------------------------------------------------------------------

    def _plan(self, head: Head) -> Plan:
        if head.generation != self.access.generation:
            head.plan = self._make_plan(head)
            head.plan.sent_id = sent_id(head)
            head.generation = self.access.generation
        plan: Plan = head.plan
        return plan

    def _make_plan(self, head: Head) -> Plan:
        origin = head.headers.get("origin")
        try:
            self.access.check_host(head.headers.get("host", ""), origin)
        except Forbidden as error:
            return Plan(None, ANYBODY, {}, 0, refusal=error)
        segments = head.segments()
        wanted = "GET" if head.method == "HEAD" else head.method
        matching = [(route, found) for route in self.routes if (found := route.match(segments)) is not None]
        for route, found in matching:
            if route.method != wanted:
                continue
            principal = ANYBODY
            if route.policy != "open":
                try:
                    principal = self.access.authenticate(head.headers.get("authorization"))
                    if not principal.may(route.policy):
                        raise Forbidden(f"A token of the role '{principal.role}' may not do this.")
                except ModelworksError as error:
                    return Plan(None, principal, {}, 0, refusal=error, cors=origin)
            return Plan(route.handler, principal, found, route.body_bytes, cors=origin)
        if matching:
            methods = tuple(sorted({route.method for route, _ in matching}))
            return Plan(None, ANYBODY, {}, 0, method_refused=methods, cors=origin)
        try:
            # Without a token nobody learns which paths exist.
            principal = self.access.authenticate(head.headers.get("authorization"))
        except ModelworksError as error:
            return Plan(None, ANYBODY, {}, 0, refusal=error, cors=origin)
        return Plan(None, principal, {}, 0, refusal=UnknownModel("There is no such path."), cors=origin)

    def _refuse_method(self, call: Call, plan: Plan) -> None:
        allowed = ", ".join((*plan.method_refused, "OPTIONS")).encode()
        if call.head.method == "OPTIONS":
            response = Response(204, b"", media=b"text/plain")
            response.headers = (
                (b"allow", allowed),
                (b"access-control-allow-methods", allowed),
                (
                    b"access-control-allow-headers",
                    b"authorization, content-type, content-encoding, inference-header-content-length, "
                    b"traceparent, x-request-id, x-request-key",
                ),
                (b"access-control-max-age", b"600"),
            )
        else:
            response = self._wrong_method(plan)
        self.reply(call, response)

    async def close(self) -> None:
        """End what handlers still do."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wrong_method(self, plan: Plan) -> Response:
        self.errors["MW1411"] += 1
        response = bare_error(405, "MW1411: This path takes " + ", ".join(plan.method_refused) + ".")
        response.headers = ((b"allow", ", ".join((*plan.method_refused, "OPTIONS")).encode()),)
        return response
