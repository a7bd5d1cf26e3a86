"""This project's engine as a contestant: asked through `submit`, `stop` and `step` alone, as the worker does."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from models_backend import registry
from models_backend.bench import weights
from models_backend.bench.contestant import Jobs
from models_backend.config import Settings
from models_backend.protocol.events import LaneDone, LaneFailed, LaneStarted, LaneStopped, LaneToken
from models_backend.protocol.params import BOUNDS, Params
from models_backend.protocol.runs import Completion, Variant
from models_backend.text import fake, threads
from models_backend.text.contract import Request
from models_backend.text.engine import Engine
from models_backend.text.open import describe, open_engines

SLACK = 64  # tokens that the first lanes may say before the last has begun
Wire = dict[str, Any]


def jobs(options: Wire) -> Jobs:
    """`model` is a base's id, `adapters` are [id, folder] each: what this engine has loaded, and nothing else."""
    settings = Settings()
    used = threads.configure(settings)
    began = time.monotonic()
    engine = _open(settings, options["model"], options.get("adapters", []))
    engine.load()
    contestant = Contestant(engine)
    facts = {
        "load_s": time.monotonic() - began,
        "threads": used,
        "device": engine.device,
        "slots": engine.slots,
        "adapters": len(contestant.names) - 1,
    }
    if settings.engine != "fake":
        folder = registry.find(options["model"], settings.home).folder
        facts |= weights.facts(engine, folder)
    return {"answer": contestant.answer, "cancel": contestant.cancel, "facts": lambda: facts | contestant.seen}


class Contestant:
    """`names` are the models by place: the base is 0, the adapters follow."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.names = [info.id for info in engine.models()]
        self.seen: Wire = {"precision": engine.models()[0].precision}
        self._runs = count()

    def answer(self, rows: Sequence[int], texts: Sequence[str], tokens: int, shadows: Sequence[int] = ()) -> Wire:
        """Lane i answers `texts[i]` with the model at place `rows[i]`, shadowed by the one at `shadows[i]` if given.

        All are stopped as soon as each has said `tokens`: the times are of lanes that run together.
        """
        run = f"bench-{next(self._runs)}"
        most = min(tokens + SLACK * len(rows), int(BOUNDS["max_tokens"][1]))
        params = Params(temperature=0.0, max_tokens=most, top_logprobs=0 if shadows else None)
        requests = [
            Request(
                run, lane, self.names[place], Completion(text), params, 1,
                shadows=(Variant(self.names[shadows[lane]]),) if shadows else (),
            )
            for lane, (place, text) in enumerate(zip(rows, texts, strict=True))
        ]  # fmt: skip
        streams: list[list[float]] = [[] for _ in rows]
        began = time.monotonic()
        self.engine.submit(*requests)
        stopped = early = False
        while self.engine.busy:
            events = self.engine.step()
            now = time.monotonic()
            for _, event in events:
                if isinstance(event, LaneToken):
                    streams[event.lane] += [now] * len(event.ids)
                    if shadows and event.ids and not all(one.shades for one in event.insight or (None,) if one):
                        raise RuntimeError("the engine shows nothing of the shadows that were asked for")
                    if shadows and event.ids and not event.insight:
                        raise RuntimeError("the engine shows no insight beside its shadows")
                elif isinstance(event, LaneStarted):
                    self.seen |= {"precision": event.precision or self.seen["precision"]}
                elif isinstance(event, LaneFailed):
                    self._empty(run, len(rows))
                    raise RuntimeError(event.error.message)
                elif isinstance(event, LaneDone):
                    early = True  # the model has nothing more to say: what follows is no longer of all lanes
            if not stopped and (early or min(map(len, streams)) >= tokens):
                stopped = True
                for lane in range(len(rows)):
                    self.engine.stop(run, lane)
        return {"began": began, "streams": streams}

    def cancel(self, rows: Sequence[int], texts: Sequence[str], trials: int) -> Wire:
        """Milliseconds from Stop to `lane.stopped`, pressed at moments spread evenly over a step."""
        step = self._step_seconds(rows, texts)
        taken = [self._cancelled(rows, texts, step * (trial + 0.5) / trials) for trial in range(trials)]
        return {"ms": median(taken) * 1000, "worst_ms": max(taken) * 1000}

    def _step_seconds(self, rows: Sequence[int], texts: Sequence[str]) -> float:
        times = self.answer(rows, texts, 4)["streams"][0]
        return (times[-1] - times[0]) / max(1, len(times) - 1)

    def _cancelled(self, rows: Sequence[int], texts: Sequence[str], wait: float) -> float:
        run = f"bench-{next(self._runs)}"
        params = Params(temperature=0.0, max_tokens=int(BOUNDS["max_tokens"][1]))
        answers = zip(rows, texts, strict=True)
        self.engine.submit(
            *(
                Request(run, i, self.names[place], Completion(text), params, 1)
                for i, (place, text) in enumerate(answers)
            )
        )
        said: set[int] = set()
        while len(said) < len(rows):
            said |= {event.lane for _, event in self.engine.step() if isinstance(event, LaneToken)}
        pressed = [0.0]

        def press() -> None:
            time.sleep(wait)
            pressed[0] = time.monotonic()
            for lane in range(len(rows)):
                self.engine.stop(run, lane)

        hand = threading.Thread(target=press)
        hand.start()
        ended = 0
        while ended < len(rows):
            ended += sum(isinstance(event, LaneStopped | LaneDone | LaneFailed) for _, event in self.engine.step())
        over = time.monotonic()
        hand.join()
        return over - pressed[0]

    def _empty(self, run: str, lanes: int) -> None:
        for lane in range(lanes):
            self.engine.stop(run, lane)
        while self.engine.busy:
            self.engine.step()


def _open(settings: Settings, model: str, adapters: Sequence[tuple[str, str]]) -> Engine:
    if settings.engine == "fake":
        return open_engines(settings, "bench")[fake.BASE]
    from models_backend.text.loader import load

    base = registry.find(model, settings.home)
    tuned = [replace(base, id=id, base=base.id, adapter=Path(folder), sha256=None) for id, folder in adapters]
    infos = [describe(entry, settings.context) for entry in (base, *tuned)]
    return Engine(infos, partial(load, base, tuned, settings), "bench", settings.slots)
