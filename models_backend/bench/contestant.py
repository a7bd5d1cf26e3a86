"""The far end of a contestant: a process that loads one engine or one peer, and does the jobs it is told, line by line.

A job is a line of JSON on stdin, `{"job": NAME, ...}`; the reply is a line, `{"ok": ...}` or `{"error": "why"}`. Each
contestant has a process of its own, so that its memory, threads and libraries are its own, and it stays alive between
rounds, so that a round costs seconds.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

Jobs = Mapping[str, Callable[..., Any]]

# Each module has `jobs(options) -> Jobs`, which loads whatever it needs.
KINDS = {
    "engine": "models_backend.bench.engine",
    "faithful": "models_backend.bench.faithful",
    "bandwidth": "models_backend.bench.bandwidth",
    "synthetic": "models_backend.bench.synthetic",
    "neighbour": "models_backend.bench.neighbour",
    "generate": "models_backend.bench.peers.generate",
    "peft": "models_backend.bench.peers.peft",
    "batching": "models_backend.bench.peers.batching",
    "serve": "models_backend.bench.peers.serve",
    "llamacpp": "models_backend.bench.peers.llamacpp",
}


def main(kind: str, options: str) -> None:
    """Load, say `{"ok": "ready"}`, then answer until stdin ends."""
    die_with_parent()
    # Libraries print what they like; the wire is ours alone.
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        found: Jobs = importlib.import_module(KINDS[kind]).jobs(json.loads(options))
    except Exception as error:
        _say(wire, {"error": _words(error)})
        return
    _say(wire, {"ok": "ready"})
    for reply in answers(found, sys.stdin):
        _say(wire, reply)


def answers(found: Jobs, lines: IO[str]) -> Iterator[dict[str, Any]]:
    """A reply for each line. A job that fails is told, and the next one is done all the same."""
    for line in lines:
        try:
            facts = json.loads(line)
            yield {"ok": found[facts.pop("job")](**facts)}
        except Exception as error:
            yield {"error": _words(error)}


def die_with_parent() -> None:
    """A contestant that is paused while its parent is killed would stay for ever. Linux alone can prevent it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def _say(wire: IO[str], reply: dict[str, Any]) -> None:
    wire.write(json.dumps(reply) + "\n")
    wire.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
