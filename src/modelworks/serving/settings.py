"""Everything ``mw serve`` can be told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from modelworks.core.errors import UsageError
from modelworks.serving.errors import UnsafeStart


def default_home() -> Path:
    """Return ``MODELWORKS_HOME``, else ``~/.modelworks``."""
    return Path(os.environ.get("MODELWORKS_HOME") or Path.home() / ".modelworks")


def default_memory_mb() -> int:
    """Return half of this machine's memory."""
    return max(256, int(psutil.virtual_memory().total / 2**20 / 2))


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Settings of a server.

    Attributes:
        packages: Package folders or ``.mwpkg`` files, or folders of them.
        name: Serve the only package under this name instead of its own.
        home: Where keys, the deployment journal, proofs and observations are kept.
        host: Address to bind; anything but loopback needs TLS and tokens.
        port: HTTP port; 0 picks a free one.
        grpc_port: gRPC port; 0 picks a free one, ``None`` leaves gRPC out.
        workers: Processes that share the port.
        memory_mb: Cap of all loaded models of one process.
        threads: Threads that run models; 0 takes one per core.
        run_threads: Threads one run takes on the CPU; 0 measures, per model, whether more than one pay.
        device: ``auto`` takes a CUDA device for the models it answers faster; ``cpu`` and ``cuda`` do not measure.
        tls_certificate: PEM file of the certificate chain.
        tls_key: PEM file of its key.
        host_names: Host names beside the loopback ones that clients may use.
        origins: Origins of web pages that may call.
        insecure: Bind a public address without TLS all the same.
        require_signed: Refuse packages that no trusted key signed.
        keep_ready: Load every champion at start and keep it.
        connections_per_address: Connections of one client address at each port of a process; 0 is no limit.
        device_memory_mb: Most memory one model may take on a CUDA device; 0 takes ``memory_mb``.
        body_mb: Longest request body.
        queue_rows: Rows that may wait per model.
        batch_rows: Most rows of one run.
        wait_ms: Longest time a batch waits for another row.
        deadline_s: Seconds a request may take when it names no deadline.
        drain_s: Seconds that requests under way get on shutdown.
        observe_share: Share of requests written to the observation log.
        audit_share: Uniform random share written as the marked audit sample.
        otlp: Base address of an OTLP/HTTP collector for traces; ``None`` traces nothing.
        trace_share: Share of requests without a sampled parent that are traced.
        access_log: ``all``, ``errors`` or ``off``.
        quiet: Print nothing on start.
    """

    packages: tuple[Path, ...] = ()
    name: str = ""
    home: Path = field(default_factory=default_home)
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = 8081
    workers: int = 1
    memory_mb: int = field(default_factory=default_memory_mb)
    threads: int = 0
    run_threads: int = 0
    device: str = "auto"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    insecure: bool = False
    require_signed: bool = True
    keep_ready: bool = False
    connections_per_address: int = 256
    device_memory_mb: int = 0
    body_mb: float = 64.0
    queue_rows: int = 4096
    batch_rows: int = 64
    wait_ms: float = 2.0
    deadline_s: float = 30.0
    drain_s: float = 20.0
    observe_share: float = 0.0
    audit_share: float = 0.01
    otlp: str | None = None
    trace_share: float = 0.01
    access_log: str = "errors"
    quiet: bool = False

    @property
    def keys(self) -> Path:
        """Folder of signing keys and tokens."""
        return self.home / "keys"

    @property
    def state(self) -> Path:
        """Folder of the deployment journal, proofs and staged packages."""
        return self.home / "serving"

    @property
    def tls(self) -> bool:
        return self.tls_certificate is not None

    @property
    def device_bytes(self) -> int:
        """Most bytes one model may take on a CUDA device."""
        return (self.device_memory_mb or self.memory_mb) * 2**20

    def cores_of_a_worker(self, usable: int) -> int:
        """Return the cores one worker has to itself: its share of them, and no more than it may run models on."""
        share = max(1, usable // self.workers)
        return min(share, self.threads) if self.threads else share

    def check(self) -> None:
        """Refuse settings that cannot work or would expose the server.

        Raises:
            UnsafeStart: A public bind without TLS.
            UsageError: Settings that contradict each other.
        """
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise UsageError(
                "TLS needs a certificate and its key.", code="MW1319", hint="--tls-cert FILE --tls-key FILE"
            )
        if not is_loopback(self.host) and not self.tls and not self.insecure:
            raise UnsafeStart(
                f"Binding {self.host} would send tokens and data in clear text to whoever listens.",
                hint="add --tls-cert FILE --tls-key FILE, or stay on 127.0.0.1 behind a proxy that ends TLS",
            )
        if self.access_log not in {"all", "errors", "off"}:
            raise UsageError(
                f"There is no access log '{self.access_log}'.", code="MW1319", hint="all, errors or off"
            )
        if self.device not in {"auto", "cpu", "cuda"}:
            raise UsageError(f"There is no device '{self.device}'.", code="MW1319", hint="auto, cpu or cuda")
        if self.run_threads < 0:
            raise UsageError("A run takes at least one thread.", code="MW1319", hint="0 measures")
        if self.workers < 1:
            raise UsageError("At least one worker is needed.", code="MW1319")


def is_loopback(host: str) -> bool:
    """Say whether a bind address is reached from this machine only."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
