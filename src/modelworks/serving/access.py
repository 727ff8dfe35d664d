"""Who may do what: tokens made on first start, roles, the endpoints a token may see, Host and Origin."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import secrets
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from modelworks.core.errors import TrustError, UsageError
from modelworks.serving.errors import Busy, Forbidden, Unauthenticated, UnknownModel

TOKENS = "serve-tokens.json"
LOCAL_TOKEN = "serve-token"  # noqa: S105 - a file name
ROLES = {"infer": 1, "monitor": 1, "admin": 2}
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(eq=False, slots=True)
class Bucket:
    """A token bucket: ``rate`` requests a second, bursts of one second's worth (at least one)."""

    rate: float
    level: float = 0.0
    last: float = field(default_factory=monotonic)

    def __post_init__(self) -> None:
        self.level = max(1.0, self.rate)

    def take(self) -> None:
        """Take one request.

        Raises:
            Busy: The rate is used up.
        """
        now = monotonic()
        self.level = min(max(1.0, self.rate), self.level + max(0.0, now - self.last) * self.rate)
        self.last = now
        if self.level < 1.0:
            raise Busy(
                f"This token may send {self.rate:g} requests a second.",
                retry_after_s=(1.0 - self.level) / self.rate,
                code="MW2315",
            )
        self.level -= 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Principal:
    """The holder of a token.

    Attributes:
        name: For logs and the deployment journal.
        role: ``infer`` (ask models), ``monitor`` (metrics and status) or ``admin`` (everything).
        endpoints: Name patterns of the endpoints it may see; others do not exist for it.
        bucket: Its request rate, if one is set.
    """

    name: str
    role: str
    endpoints: tuple[str, ...] = ("*",)
    bucket: Bucket | None = None

    def may(self, policy: str) -> bool:
        """Say whether a route of this policy is open to the holder."""
        return self.role in {policy, "admin"} or policy == "any"

    def sees(self, endpoint: str) -> bool:
        """Say whether an endpoint exists for the holder."""
        return self.endpoints == ("*",) or any(fnmatch.fnmatchcase(endpoint, item) for item in self.endpoints)

    def require(self, endpoint: str, known: Container[str]) -> None:
        """Raise the same error for an endpoint that is hidden as for one that is not there.

        The holder of a token for some endpoints gets no close matches either: they would name the hidden ones.
        """
        if self.endpoints != ("*",) and not (self.sees(endpoint) and endpoint in known):
            raise UnknownModel(f"There is no model '{endpoint[:100]}'.")


ANYBODY = Principal(name="anybody", role="none", endpoints=())


class Access:
    """The tokens of a server and the hosts and origins it answers.

    Args:
        folder: Where tokens are kept; ``None`` keeps one fresh admin token in memory.
        hosts: Host names beside the loopback ones.
        origins: Origins of pages that may call, beside the server's own.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        hosts: tuple[str, ...] = (),
        origins: tuple[str, ...] = (),
    ) -> None:
        self.generation = 0
        self._folder = folder
        self._hosts = {*LOOPBACK_HOSTS, *(host.lower() for host in hosts)}
        self._origins = set(origins)
        self._holders: dict[bytes, Principal] = {}
        self._modified = 0
        self.local_token = self._first_start()
        self.reload()

    # -- tokens ------------------------------------------------------------------------------------------------

    def _first_start(self) -> str:
        if self._folder is None:
            return secrets.token_urlsafe(32)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / LOCAL_TOKEN
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return read_local_token(self._folder)
        token = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(token + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return token

    def reload(self) -> bool:
        """Read the token file again if it changed; returns whether it did."""
        holders = {_digest(self.local_token): Principal(name="local", role="admin")}
        modified = 0
        if self._folder is not None:
            path = self._folder / TOKENS
            if path.exists():
                modified = path.stat().st_mtime_ns
                if modified == self._modified:
                    return False
                _check_private(path)
                for entry in json.loads(path.read_bytes())["tokens"]:
                    holders[bytes.fromhex(entry["sha256"])] = _principal(entry)
            elif self._modified == 0 and self._holders:
                return False
        self._modified = modified
        self._holders = holders
        self.generation += 1
        return True

    def authenticate(self, authorization: str | None) -> Principal:
        """Return the holder of the token in an ``Authorization`` value (Bearer, or Basic with it as password).

        Raises:
            Unauthenticated: There is none, or it is not known.
        """
        scheme, _, value = (authorization or "").partition(" ")
        token = value.strip()
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).decode().partition(":")[2]
            except ValueError:
                token = ""
        elif scheme.lower() != "bearer":
            token = ""
        holder = self._holders.get(_digest(token)) if token else None
        if holder is None:
            raise Unauthenticated("A token is needed: send 'Authorization: Bearer TOKEN'.")
        return holder

    # -- host and origin ---------------------------------------------------------------------------------------

    def check_host(self, host: str, origin: str | None) -> None:
        """Check the Host and Origin headers, which a page that was rebound to this address cannot choose.

        Raises:
            Forbidden: One of them is not on the list.
        """
        if host and host_name(host) not in self._hosts:
            raise Forbidden("This Host is not served.", code="MW3413", hint="mw serve --host-name NAME")
        if origin is not None and not self.allows_origin(origin, host):
            raise Forbidden(
                "Pages of this Origin may not call.", code="MW3414", hint="mw serve --origin ORIGIN"
            )

    def allows_origin(self, origin: str, host: str) -> bool:
        """Say whether a page of ``origin`` may call: a listed one, or the server's own."""
        try:
            return origin in self._origins or urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False


def host_name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    host = host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def read_local_token(folder: Path) -> str:
    """Return the token that the first start made, for programs of the same user on this machine.

    Raises:
        TrustError: Others can read it.
        UsageError: No server was ever started here.
    """
    path = folder / LOCAL_TOKEN
    try:
        _check_private(path)
        return path.read_text().strip()
    except FileNotFoundError:
        raise UsageError("No server was started here yet.", code="MW1316", hint="mw serve PACKAGE") from None


def add_token(
    folder: Path, *, name: str, role: str, endpoints: tuple[str, ...] = ("*",), rate: float | None = None
) -> str:
    """Make a token and return it; only its SHA-256 is kept.

    Raises:
        UsageError: There is no such role, or the name is taken.
    """
    if role not in ROLES:
        raise UsageError(f"There is no role '{role}'.", code="MW1317", hint="roles: " + ", ".join(ROLES))
    entries = list_tokens(folder)
    if any(entry["name"] == name for entry in entries):
        raise UsageError(f"There is a token named '{name}' already.", code="MW1318")
    token = secrets.token_urlsafe(32)
    entry: dict[str, Any] = {
        "name": name, "role": role, "endpoints": list(endpoints), "sha256": _digest(token).hex(),
    }  # fmt: skip
    if rate is not None:
        entry["rate_per_s"] = rate
    _write(folder, [*entries, entry])
    return token


def remove_token(folder: Path, name: str) -> None:
    """Revoke a token; running servers refuse it within a second.

    Raises:
        UsageError: There is no token of that name.
    """
    entries = list_tokens(folder)
    kept = [entry for entry in entries if entry["name"] != name]
    if len(kept) == len(entries):
        raise UsageError(f"There is no token named '{name}'.", code="MW1318")
    _write(folder, kept)


def list_tokens(folder: Path) -> list[dict[str, Any]]:
    """Return the tokens' names, roles, endpoints and digests."""
    path = folder / TOKENS
    if not path.exists():
        return []
    _check_private(path)
    return list(json.loads(path.read_bytes())["tokens"])


def _write(folder: Path, entries: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = folder / f".{TOKENS}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(json.dumps({"tokens": entries}, indent=1).encode())
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(folder / TOKENS)


def _principal(entry: dict[str, Any]) -> Principal:
    rate = entry.get("rate_per_s")
    return Principal(
        name=entry["name"],
        role=entry["role"],
        endpoints=tuple(entry.get("endpoints", ("*",))),
        bucket=Bucket(float(rate)) if rate else None,
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _check_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        raise TrustError(
            "Other users of this machine can read the tokens.",
            code="MW3415",
            where=path.name,
            hint=f"chmod 600 {path}",
        )
