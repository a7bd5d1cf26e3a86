"""Shared pages count once, whoever maps them."""

import os
from pathlib import Path

from models_backend.bench import memory

LIBRARY = """7f00-7f10 r-xp 00000000 08:01 42 /lib/torch.so
Size:               4000 kB
Rss:                {rss} kB
Pss:                   1 kB
Anonymous:            {dirty} kB
VmFlags: rd ex
"""
HEAP = """5500-5600 rw-p 00000000 00:00 0 [heap]
Rss:                {rss} kB
Anonymous:            {rss} kB
"""


def written(folder: Path, pid: int, smaps: str) -> None:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "smaps").write_text(smaps)
    (folder / str(pid) / "status").write_text("Name:\tx\nVmHWM:\t     700 kB\n")


def test_a_library_of_two_processes_counts_once_and_their_own_pages_twice(tmp_path: Path) -> None:
    written(tmp_path, 1, LIBRARY.format(rss=100, dirty=10) + HEAP.format(rss=50))
    written(tmp_path, 2, LIBRARY.format(rss=300, dirty=0) + HEAP.format(rss=60))
    assert memory.resident([1], tmp_path) == (100 + 50) << 10
    assert memory.resident([1, 2], tmp_path) == (10 + 50 + 60 + 300) << 10


def test_a_process_that_is_gone_is_not_taken_for_a_small_one(tmp_path: Path) -> None:
    assert memory.resident([1], tmp_path) is None
    assert memory.peak([1], tmp_path) is None


def test_the_highest_is_the_sum_of_the_highest(tmp_path: Path) -> None:
    written(tmp_path, 1, "")
    written(tmp_path, 2, "")
    assert memory.peak([1, 2], tmp_path) == 1400 << 10


def test_the_children_of_a_session_are_found_by_the_name_that_hides_them(tmp_path: Path) -> None:
    for pid, session in ((10, 10), (11, 10), (12, 12)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) S 1 {session} {session} 0 -1")
    assert sorted(memory.session(10, tmp_path)) == [10, 11]


def test_this_process_holds_what_it_has_allocated() -> None:
    before = memory.resident([os.getpid()])
    if before is None:  # not Linux
        return
    held = bytearray(b"x") * (64 << 20)
    after = memory.resident([os.getpid()])
    assert after is not None and after - before > 50 << 20
    del held
