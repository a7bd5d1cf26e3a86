"""The only window to the bus. Knows its keys and scripts, not people, records or pages; only services look through it.

All is asynchronous; trouble with the connection is always `errors.BusDown`.
"""

from .connection import Bus, bus, close
from .tail import Tail

__all__ = ["Bus", "Tail", "bus", "close"]
