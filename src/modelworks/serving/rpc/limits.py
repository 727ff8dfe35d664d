"""Limits of the connections of gRPC clients."""

from __future__ import annotations

from dataclasses import dataclass

FRAME_BYTES = 64 * 1024
BLOCK_BYTES = 32 * 1024
"""Longest header block; twice what a call's metadata may be, and decoding it is slow work before anyone has a token."""


@dataclass(frozen=True, kw_only=True)
class RpcLimits:
    """Limits of connections.

    Attributes:
        message_bytes: Longest message, also when decompressed.
        bodies_bytes: Bytes of all messages being received.
        connections: Open connections.
        connections_per_address: Those of one address; 0 is no limit.
        streams: Calls under way on one connection.
        metadata_bytes: Bytes of the headers of a call, 32 for each field included.
        window_bytes: Bytes a client may send ahead on a stream; four times as many on the connection.
        idle_frames: Frames that further no call, beyond what the calls that end make up for.
        greeting_s: Seconds from the opening of a connection to its first frame.
        body_s: Seconds the rest of a message may stall.
        idle_s: Seconds a connection may be without a call.
        write_s: Seconds a client may take nothing of its answers.
    """

    message_bytes: int = 64 * 2**20
    bodies_bytes: int = 512 * 2**20
    connections: int = 1024
    connections_per_address: int = 256
    streams: int = 1024
    metadata_bytes: int = 16_384
    window_bytes: int = 2**20
    idle_frames: int = 10_000
    greeting_s: float = 10.0
    body_s: float = 15.0
    idle_s: float = 300.0
    write_s: float = 30.0
