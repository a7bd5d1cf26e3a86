"""Keeps a handful of processes alive: starts them, prefixes their lines, restarts those that die, ends them together.

Knows processes and nothing of what they do. A process that keeps dying is tried again ever more slowly, at most every
few seconds; one that has lived a while is forgiven.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

LONGEST_DELAY = 5.0
FORGIVEN_AFTER = 10.0
PATIENCE = 10.0  # seconds between the polite word and the kill


@dataclass
class Child:
    """One process to keep alive. `last` ones are ended after the others (the bus, which the others still
    write to). `log` is where a process writes that does not speak to us."""

    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    last: bool = False
    log: Path | None = None
    process: asyncio.subprocess.Process | None = None


class Supervisor:
    def __init__(self, children: list[Child], say: Callable[[str, str], None]) -> None:
        """`say(name, line)` shows a line of a child's output, or of ours under the name "up"."""
        self.children = children
        self._say = say
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(child)) for child in self.children]

    async def end(self) -> None:
        """Ask all to end, wait, and kill what is left."""
        self._ending = True
        for last in (False, True):
            group = [child for child in self.children if child.last == last]
            await asyncio.gather(*(self._end(child) for child in group))
        await asyncio.gather(*self._tasks)

    async def _keep(self, child: Child) -> None:
        delay = 0.2
        loop = asyncio.get_running_loop()
        while not self._ending:
            born = loop.time()
            child.process = await asyncio.create_subprocess_exec(
                *child.argv,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **child.env},
                cwd=child.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=1 << 20,
                start_new_session=True,  # Ctrl-C reaches us alone; we end the children in our order
                preexec_fn=_die_with_parent,
            )
            await self._relay(child)
            code = await child.process.wait()
            if self._ending:
                return
            if loop.time() - born > FORGIVEN_AFTER:
                delay = 0.2
            where = f"; see {child.log}" if child.log else ""
            self._say("up", f"{child.name} ended ({_reason(code)}{where}); starting it again in {delay:.1f} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _relay(self, child: Child) -> None:
        assert child.process is not None and child.process.stdout is not None
        while True:
            try:
                line = await child.process.stdout.readline()
            except ValueError:  # a line longer than the limit: what is left of it follows
                continue
            if not line:
                return
            self._say(child.name, line.decode(errors="replace").rstrip())

    async def _end(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:
            self._say("up", f"{child.name} does not end; killing it")
            process.kill()


def _reason(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _die_with_parent() -> None:
    """Linux: the kernel ends a child whose supervisor was killed. Elsewhere such a child has to be ended by hand."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
