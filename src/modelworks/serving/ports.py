"""Binding the ports of both doors."""

from __future__ import annotations

import socket

from modelworks.core.errors import UsageError


def bound(host: str, port: int, *, shared: bool, option: str) -> socket.socket:
    """Return a bound socket that does not listen yet.

    Args:
        host: Address or name; a name is looked up as IPv4.
        port: 0 picks a free one.
        shared: Whether other processes bind it too.
        option: Of ``mw serve``, to choose another port.

    Raises:
        UsageError: The port is taken, or the address is none of this machine.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise UsageError(
            f"Port {port} of {host} cannot be opened: {error.strerror}.",
            code="MW1320",
            hint=f"mw serve {option} with another number",
        ) from error
    return found
