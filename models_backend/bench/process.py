"""The near end of a contestant: start it, give it jobs, and keep it still while others have their turn.

A contestant out of turn is stopped by signal, whatever threads or servers it has: an idle one then costs the others
nothing. All of them are children of this process and are ended with it.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from models_backend.bench import memory

LOAD_SECONDS = 300.0
JOB_SECONDS = 120.0
LONGEST_REPLY = 16 << 20  # bytes


class Lost(Exception):
    """A contestant did not start, failed at a job, or did not answer in time. Says why, in words."""


class Process:
    """One contestant. `kind` is a key of contestant.KINDS, `options` are for its `jobs`."""

    def __init__(self, kind: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Returns when it has loaded; raises Lost."""
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._unread = b""
        began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "models_backend.bench.contestant", kind, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            self._reply(LOAD_SECONDS)
        except Lost:
            self.close()
            raise
        self.load_seconds = time.monotonic() - began
        self.pause()

    def ask(self, job: str, seconds: float = JOB_SECONDS, **facts: Any) -> Any:
        """Give it a turn. Raises Lost when the job fails; the contestant may be asked again."""
        self.begin(job, **facts)
        return self.end(seconds)

    def begin(self, job: str, **facts: Any) -> None:
        """Give it a job and return at once: several contestants may work at the same time."""
        self.resume()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; `end` finds out how
            self._process.stdin.write(json.dumps({"job": job, **facts}).encode() + b"\n")
            self._process.stdin.flush()

    def end(self, seconds: float = JOB_SECONDS) -> Any:
        try:
            return self._reply(seconds)
        finally:
            self.pause()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        """Its own and its children's; they share a session."""
        return memory.session(self._process.pid)

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._noise):
            with suppress(OSError):  # a pipe with something unsent
                pipe.close()  # type: ignore[union-attr]

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # gone already
            os.killpg(self._process.pid, number)

    def _reply(self, seconds: float) -> Any:
        line = self._line(time.monotonic() + seconds)
        try:
            reply = json.loads(line)
        except ValueError:
            raise Lost(f"it answered {line[:200]!r}") from None
        if "error" in reply:
            raise Lost(reply["error"])
        return reply["ok"]

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._signal(signal.SIGKILL)  # its late reply would be taken for that to another job
                    raise Lost("it did not answer in time")
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise Lost(self._last_words())
                self._unread += piece
                if len(self._unread) > LONGEST_REPLY:
                    self._signal(signal.SIGKILL)
                    raise Lost("it says too much")
        line, self._unread = self._unread.split(b"\n", 1)
        return line

    def _last_words(self) -> str:
        self._noise.seek(0, os.SEEK_END)
        self._noise.seek(max(0, self._noise.tell() - 4096))
        lines = [line for line in self._noise.read().decode(errors="replace").splitlines() if line.strip()]
        return f"it ended: {lines[-1][:500] if lines else 'without a word'}"


def environment(settings: Mapping[str, Any], threads: int) -> dict[str, str]:
    """This process's own, with the settings of the GPU house spelled out, and the same threads for everybody.

    They wait in the same way too: spinning gains a little on an idle machine, but beside any neighbour it would
    compare who suffers more. Another OMP_WAIT_POLICY, set from outside, holds for everybody.
    """
    own = {
        f"DIPTYCH_{name.upper()}": _plain(value)
        for name, value in settings.items()
        if isinstance(value, str | int | float | Path)  # a secret stays where it was set
    }
    number = str(threads)
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        **own,
        "DIPTYCH_THREADS": number,
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _plain(value: Any) -> str:
    return str(value.absolute()) if isinstance(value, Path) else str(value)
