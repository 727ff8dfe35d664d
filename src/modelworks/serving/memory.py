"""How much memory a load really took: the allocator's own books, else the resident size."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from collections.abc import Callable

import psutil

_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
_MAPPED_BYTES, _KEPT_BYTES = 8 * 2**20, 32 * 2**20


class _MallInfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@functools.cache
def _libc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6")
        library.mallinfo2.restype = _MallInfo2
    except (OSError, AttributeError):
        return None
    return library


def allocated_bytes() -> int:
    """Return bytes handed out by the allocator and not yet returned (glibc), else the resident size.

    Unlike the resident size it does not move when pages are touched late or kept by the allocator, so the
    difference around a load is the load's own.
    """
    library = _libc()
    if library is None:
        return resident_bytes()
    info = library.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resident_bytes() -> int:
    """Return the resident size of this process."""
    return int(psutil.Process().memory_info().rss)


def few_heaps(most: int) -> None:
    """Let all threads take memory from at most ``most`` heaps (glibc; elsewhere nothing happens).

    Otherwise glibc gives every thread a heap of its own, and what one model left behind serves no load of another
    thread: models that come and go cost a third more memory.
    """
    library = _libc()
    option: Callable[[int, int], int] | None = getattr(library, "mallopt", None)
    if option is not None:
        option(_M_ARENA_MAX, most)


def keep_pages() -> None:
    """Keep up to 32 MB of freed memory for the next run (glibc; elsewhere nothing happens).

    Otherwise glibc gives what a run of a few MB frees back to the system, and the next run takes it page by page again:
    a batch of 16 images then took twice as long a row. Blocks of 8 MB and more still go back at once.
    """
    library = _libc()
    option: Callable[[int, int], int] | None = getattr(library, "mallopt", None)
    if option is not None:
        option(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        option(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def trim() -> None:
    """Give freed memory back to the operating system (glibc; elsewhere nothing happens)."""
    library = _libc()
    release: Callable[[int], int] | None = getattr(library, "malloc_trim", None)
    if release is not None:
        release(0)
