"""How the threads of a pass share the pieces of a region, and wait for each other."""

from numba import njit, types

from .dot import fetch_add, peek
from .records import LINE, Room

_give_way = types.ExternalFunction("sched_yield", types.int32())


@njit(nogil=True, inline="always")
def take(room: Room, region: int, pieces: int) -> int:
    """The next piece of a region, or -1 when all are taken."""
    piece = fetch_add(room.counters.ctypes.data + region * 2 * LINE * 8, 1)
    return piece if piece < pieces else -1


@njit(nogil=True, inline="always")
def done(room: Room, region: int) -> None:
    fetch_add(room.counters.ctypes.data + (region * 2 + 1) * LINE * 8, 1)


@njit(nogil=True)
def wait(room: Room, region: int, pieces: int) -> None:
    """Until all pieces are done. Spins for some microseconds, then lets others have the core."""
    spot = room.counters.ctypes.data + (region * 2 + 1) * LINE * 8
    spins = 0
    while peek(spot) < pieces:
        spins += 1
        if spins > 2000:
            _give_way()
