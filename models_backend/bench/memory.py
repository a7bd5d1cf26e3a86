"""How much memory processes hold, shared pages counted once: what the machine would have free again without them.

Linux only: no other system tells which pages are whose.
"""

import re
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_HEAD = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) (\S+) (\d+)")


def resident(pids: Iterable[int], proc: Path = PROC) -> int | None:
    """Bytes in memory of all `pids` together; None where the system does not tell.

    What a process has for itself counts for each; a file that several have mapped (libraries, or weights that are
    read in place) counts once, at the largest share that one of them has touched.
    """
    own, shared = 0, dict[tuple[str, str, str], int]()
    try:
        for pid in pids:
            mine, files = _mappings((proc / str(pid) / "smaps").read_text(encoding="utf-8", errors="replace"))
            own += mine
            for file, size in files.items():
                shared[file] = max(shared.get(file, 0), size)
    except OSError:
        return None
    return own + sum(shared.values())


def peak(pids: Iterable[int], proc: Path = PROC) -> int | None:
    """Bytes that `pids` had in memory at their highest, shared pages counted for each."""
    try:
        texts = [(proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace") for pid in pids]
    except OSError:
        return None
    return sum(int(found[1]) << 10 for text in texts if (found := re.search(r"^VmHWM:\s+(\d+) kB", text, re.M)))


def session(leader: int, proc: Path = PROC) -> list[int]:
    """The processes of a session: its leader, and the children that stayed in it."""
    found = [leader]
    for entry in proc.glob("[0-9]*/stat") if proc.is_dir() else ():
        try:
            # The name before the last ")" may hold anything; state, parent, group and session follow it.
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # ended while we looked
            continue
        pid = int(entry.parent.name)
        if int(fields[3]) == leader and pid != leader:
            found.append(pid)
    return found


def _mappings(smaps: str) -> tuple[int, dict[tuple[str, str, str], int]]:
    """Bytes of the process's own, and bytes of each mapped piece of a file by (device, inode, offset)."""
    own, files = 0, dict[tuple[str, str, str], int]()
    place, size = ("", "", ""), 0
    for line in smaps.splitlines():
        head = _HEAD.match(line)
        if head is not None:
            place = (head[2], head[3], head[1])
        elif line.startswith("Rss:"):
            size = int(line.split()[1]) << 10
        elif line.startswith("Anonymous:"):
            mine = int(line.split()[1]) << 10
            if place[1] == "0":  # backed by no file, shared or not
                mine = size
            own += mine
            files[place] = files.get(place, 0) + size - mine
    return own, files
