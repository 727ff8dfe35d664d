"""Who may open another connection: a limit for all clients of a door, and one for each address."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_IPV6_SITE = 64
"""Whoever has one IPv6 address has a whole network of this prefix length to open connections from."""


@dataclass(frozen=True, kw_only=True)
class Full:
    """Why a connection is not taken.

    Attributes:
        cause: ``connections`` (of all clients) or ``address``.
        text: What to tell the client.
    """

    cause: str
    text: str


class Seats:
    """The connections of one door, those whose TLS handshake is under way included.

    Attributes:
        taken: Connections that are open or shaking hands.
        refused: Cause -> connections that were not taken, or whose handshake failed (``handshake``).
    """

    def __init__(self) -> None:
        self.taken = 0
        self.refused = {"connections": 0, "address": 0, "handshake": 0}
        self._by_address: dict[str, int] = {}

    def take(self, address: str, *, most: int, per_address: int) -> Seat | Full:
        """Give a seat to a client, or say why there is none.

        Args:
            address: Of the client; one that is no IP address (a local socket) counts to the total alone.
            most: Connections of all clients.
            per_address: Connections of one IPv4 address or IPv6 network of 64 bits; 0 is no limit.
        """
        if self.taken >= most:
            self.refused["connections"] += 1
            return Full(cause="connections", text=f"the server holds its {most} connections")
        name = counted_as(address)
        if name and 0 < per_address <= self._by_address.get(name, 0):
            self.refused["address"] += 1
            return Full(
                cause="address",
                text=f"{name} holds the {per_address} connections an address may have "
                "(connections_per_address)",
            )
        self.taken += 1
        if name:
            self._by_address[name] = self._by_address.get(name, 0) + 1
        return Seat(self, name)

    def leave(self, name: str) -> None:
        """Take back a seat."""
        self.taken -= 1
        if name:
            left = self._by_address[name] - 1
            if left:
                self._by_address[name] = left
            else:
                del self._by_address[name]


class Seat:
    """One client's place until it leaves; leaving twice counts once."""

    __slots__ = ("_name", "_seats")

    def __init__(self, seats: Seats | None, name: str) -> None:
        self._seats = seats
        self._name = name

    def leave(self) -> None:
        """Let another client have it."""
        seats, self._seats = self._seats, None
        if seats is not None:
            seats.leave(self._name)


RESERVED = Seat(None, "")
"""A place beside the limits, for the other workers of the same server."""


def counted_as(address: str) -> str:
    """Return whom an address counts for: itself, or the network of an IPv6 one; empty if it is none."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    if known.is_loopback:
        return str(known)
    return str(ipaddress.ip_network((known, _IPV6_SITE), strict=False))
