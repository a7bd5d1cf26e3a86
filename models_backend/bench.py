"""How fast the engine is on this machine, held against transformers and PEFT in the same minutes.

Absolute figures say little on a shared machine: neighbours come and go. So the cases take turns, round after round,
each figure is the median of its rounds, and what is promised are ratios between cases of one run.
"""

import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from models_backend.config import Settings
from models_backend.protocol.events import LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion
from models_backend.text import threads
from models_backend.text.contract import EngineError, Request
from models_backend.text.engine import Engine
from models_backend.text.open import open_engines

PROMPT = Completion(
    "Once upon a time, in a small village by the sea, there lived an old lighthouse keeper who wrote a letter every "
    "evening. He wrote about the ships that had passed, about the weather, and about the gulls that sat on his window. "
    "One evening, when the fog was so thick that he could not see his own hand,"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one case. `step` is the median time between tokens; `first` is the time to the first token."""

    tokens_per_second: float
    first_ms: float
    step_ms: float


Case = Callable[[int], Sample]


def bench(settings: Settings, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure and return facts, cases and ratios as plain values. Raises EngineError if the model is not there."""
    engines = open_engines(settings, "bench")
    if settings.model not in engines:
        raise EngineError("not_installed", f"{settings.model} is not here: python -m models_backend pull")
    used_threads = threads.configure(settings)  # nothing has imported torch yet
    engine = engines[settings.model]
    began = time.perf_counter()
    engine.load(say)
    load_seconds = time.perf_counter() - began
    # Many short rounds rather than a few long ones: the cases of a round then see the same neighbours.
    rounds, tokens = (5, 16) if quick else (9, 48)
    cases = _cases(settings, engine)
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        say(f"Round {number} of {rounds}" if number else "Warming up")
        for name, case in cases.items():
            sample = case(tokens if number else 4)
            if number:
                samples[name].append(sample)
    figures = {name: _middle(of) for name, of in samples.items()}
    return {
        "facts": _facts(settings, engine, used_threads)
        | {"rounds": rounds, "tokens": tokens, "load_s": round(load_seconds, 2)},
        "cases": {name: {key: round(value, 2) for key, value in asdict(of).items()} for name, of in figures.items()},
        "ratios": {name: round(value, 2) for name, value in _ratios(figures).items()},
    }


def show(report: dict[str, Any]) -> None:
    """Print a report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(", ".join(f"{name} {value}" for name, value in report["facts"].items()))
    table = Table("case", "tokens/s", "ms to first token", "ms per step")
    for name, of in report["cases"].items():
        table.add_row(name, f"{of['tokens_per_second']:.1f}", f"{of['first_ms']:.0f}", f"{of['step_ms']:.1f}")
    console.print(table)
    for name, value in report["ratios"].items():
        console.print(f"{name}: [bold]{value:.2f}[/]")


def run(settings: Settings, quick: bool, out: Path | None) -> None:
    """The command: measure, print, and write JSON to `out` if it is given. Progress goes to stderr."""
    report = bench(settings, quick, lambda text: print(text, file=sys.stderr, flush=True))
    show(report)
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _cases(settings: Settings, engine: Engine) -> dict[str, Case]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from models_backend.registry import find

    base, *tuned = [info.id for info in engine.models() if info.loaded]
    entry = find(base, settings.home)
    tokenizer = AutoTokenizer.from_pretrained(entry.folder)
    plain: Any = AutoModelForCausalLM.from_pretrained(entry.folder, dtype=_dtype(engine), local_files_only=True)
    plain = plain.to(_torch_device(engine)).eval()
    ids = torch.tensor([tokenizer(PROMPT.text).input_ids], device=plain.device)

    def lanes(*models: str) -> Case:
        return lambda tokens: _engine_round(engine, models, tokens)

    def generate(rows: int, model: Any = plain, **options: Any) -> Case:
        return lambda tokens: _generate_round(model, ids.expand(rows, -1), tokens, options)

    cases = {"generate(), 1 row": generate(1), "engine, 1 lane": lanes(base)}
    cases |= {"generate(), 2 rows": generate(2), "engine, 2 lanes, base twice": lanes(base, base)}
    if tuned:
        import peft

        adapter = find(tuned[0], settings.home).adapter
        mixed = AutoModelForCausalLM.from_pretrained(entry.folder, dtype=plain.dtype, local_files_only=True)
        mixed = peft.PeftModel.from_pretrained(mixed.to(plain.device), str(adapter)).eval()
        names = ["__base__", "default"]
        cases["PEFT, base and adapter"] = generate(2, mixed, adapter_names=names)
        cases["engine, base and adapter"] = lanes(base, tuned[0])
        cases["engine, 4 lanes, two adapted"] = lanes(base, tuned[0], base, tuned[-1])
    cases["generate(), 4 rows"] = generate(4)
    return cases


def _engine_round(engine: Engine, models: Sequence[str], tokens: int) -> Sample:
    params = Params(temperature=0.0, max_tokens=tokens)
    began = time.perf_counter()
    engine.submit(*(Request("bench", lane, model, PROMPT, params, 1) for lane, model in enumerate(models)))
    times: list[float] = []
    count = 0
    while engine.busy:
        made = sum(isinstance(event, LaneToken) for _, event in engine.step())
        # Steps after a lane has ended early are no steps of this case.
        if made == len(models):
            times.append(time.perf_counter())
            count += made
    return _sample(began, times, len(models))


def _generate_round(model: Any, ids: Any, tokens: int, options: dict[str, Any]) -> Sample:
    import torch

    clock = _Clock()
    began = time.perf_counter()
    # In a thread of its own, as a server must do it to stream what comes.
    work = threading.Thread(
        target=model.generate,
        kwargs={
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "do_sample": False,
            "max_new_tokens": tokens,
            "logits_processor": [clock],
            **options,
        },
    )
    work.start()
    work.join()
    return _sample(began, clock.times, ids.shape[0])


class _Clock:
    """A logits processor that changes nothing: generate() calls it once a step, for any number of rows."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.times.append(time.perf_counter())
        return scores


def _sample(began: float, times: Sequence[float], lanes: int) -> Sample:
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return Sample(lanes * len(gaps) / sum(gaps), (times[0] - began) * 1000, median(gaps) * 1000)


def _middle(samples: Sequence[Sample]) -> Sample:
    return Sample(*(median(getattr(one, name) for one in samples) for name in Sample.__slots__))


def _ratios(figures: dict[str, Sample]) -> dict[str, float]:
    one, plain = figures["engine, 1 lane"], figures["generate(), 1 row"]
    ratios = {"one lane, speed against generate()": one.tokens_per_second / plain.tokens_per_second}
    pair = figures.get("engine, base and adapter")
    if pair is not None:
        peft = figures["PEFT, base and adapter"]
        four, rows = figures["engine, 4 lanes, two adapted"], figures["generate(), 4 rows"]
        ratios |= {
            "base and adapter, step time against one lane (at most 1.5)": pair.step_ms / one.step_ms,
            "base and adapter, speed against PEFT's mixed batch": pair.tokens_per_second / peft.tokens_per_second,
            "base and adapter, speed against one after the other": pair.tokens_per_second / one.tokens_per_second,
            "adapter's cost in a pair, step time against base twice": pair.step_ms
            / figures["engine, 2 lanes, base twice"].step_ms,
            "four lanes, speed against generate() without adapters": four.tokens_per_second / rows.tokens_per_second,
        }
    return ratios


def _facts(settings: Settings, engine: Engine, used_threads: int) -> dict[str, Any]:
    import torch
    import transformers

    return {
        "model": engine.base,
        "device": engine.device,
        "cpu": _cpu(),
        "threads": used_threads,
        "dtype": str(_dtype(engine)).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _dtype(engine: Engine) -> Any:
    from models_backend.text.loader import pick_dtype

    return pick_dtype(_torch_device(engine))


def _torch_device(engine: Engine) -> Any:
    import torch

    return torch.device(engine.device if engine.device in ("cpu", "mps") else "cuda")
