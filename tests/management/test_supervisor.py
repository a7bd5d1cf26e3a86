"""Processes are kept alive, shown and ended together."""

import asyncio
import sys

import pytest

from playground.management.supervisor import Child, Supervisor

FOREVER = "import time\nwhile True: time.sleep(60)"


class Lines:
    """What was said, and a way to wait for it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self._more = asyncio.Condition()

    def __call__(self, name: str, line: str) -> None:
        self.said.append((name, line))
        self._task = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        async with self._more:
            self._more.notify_all()

    async def until(self, name: str, text: str, times: int = 1) -> None:
        def heard() -> bool:
            return sum(who == name and text in line for who, line in self.said) >= times

        async with asyncio.timeout(20), self._more:
            await self._more.wait_for(heard)


@pytest.fixture
def lines() -> Lines:
    return Lines()


def python(name: str, code: str, **more) -> Child:
    return Child(name, [sys.executable, "-c", code], **more)


async def test_lines_are_shown_under_the_name_of_their_process(lines):
    supervisor = Supervisor([python("a", f"print('one')\n{FOREVER}"), python("b", f"print('two')\n{FOREVER}")], lines)
    supervisor.start()
    await lines.until("a", "one")
    await lines.until("b", "two")
    await supervisor.end()


async def test_a_process_that_dies_is_started_again_and_the_others_never_notice(lines):
    fragile = python("fragile", "print('here'); raise SystemExit(3)")
    steady = python("steady", f"print('up')\n{FOREVER}")
    supervisor = Supervisor([fragile, steady], lines)
    supervisor.start()
    await lines.until("fragile", "here", times=3)
    await lines.until("up", "fragile ended (exit code 3)", times=2)
    assert lines.said.count(("steady", "up")) == 1
    await supervisor.end()


async def test_a_killed_process_is_named_with_its_signal(lines):
    child = python("victim", f"print('up')\n{FOREVER}")
    supervisor = Supervisor([child], lines)
    supervisor.start()
    await lines.until("victim", "up")
    child.process.kill()
    await lines.until("up", "victim ended (killed by SIGKILL)")
    await lines.until("victim", "up", times=2)
    await supervisor.end()


async def test_the_end_leaves_nothing_running_and_the_last_one_ends_last(lines):
    telling = (
        "import signal, sys, time\n"
        "def bye(*_):\n    print('bye')\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, bye)\nprint('up')\n"
        "while True: time.sleep(60)"
    )
    bus, web = python("bus", telling, last=True), python("web", telling)
    supervisor = Supervisor([bus, web], lines)
    supervisor.start()
    await lines.until("bus", "up")
    await lines.until("web", "up")
    await supervisor.end()
    assert bus.process.returncode == web.process.returncode == 0
    assert [name for name, line in lines.said if line == "bye"] == ["web", "bus"]


async def test_a_process_that_does_not_want_to_end_is_killed(lines, monkeypatch):
    monkeypatch.setattr("playground.management.supervisor.PATIENCE", 0.2)
    deaf = python("deaf", f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up')\n{FOREVER}")
    supervisor = Supervisor([deaf], lines)
    supervisor.start()
    await lines.until("deaf", "up")
    await supervisor.end()
    assert deaf.process.returncode == -9
    assert ("up", "deaf does not end; killing it") in lines.said


async def test_a_line_without_end_does_not_stop_the_next_ones(lines):
    supervisor = Supervisor([python("loud", f"print('x' * 3_000_000)\nprint('after')\n{FOREVER}")], lines)
    supervisor.start()
    await lines.until("loud", "after")
    await supervisor.end()
