"""The ratios that this project promises, and how each follows from the rounds. Pure functions of numbers.

Each ratio is taken round by round, between cases that had the same minutes, and the median is told: a neighbour that
slows a round slows both of its sides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

from models_backend.bench.sample import Figures

# case -> round -> figures
Rounds = Mapping[str, Mapping[int, Figures]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """`of` maps the figures of `cases`, of one round and in that order, to the ratio. `goal` None: none is set."""

    key: str
    says: str
    cases: tuple[str, ...]
    of: Callable[..., float]
    goal: float | None = None
    better: Literal["low", "high"] = "high"

    def reached(self, value: float) -> bool | None:
        if self.goal is None:
            return None
        return value <= self.goal if self.better == "low" else value >= self.goal


def _speed(mine: Figures, theirs: Figures) -> float:
    return mine["tokens_per_second"] / theirs["tokens_per_second"]


def _step(mine: Figures, theirs: Figures) -> float:
    return mine["step_ms"] / theirs["step_ms"]


def _first(mine: Figures, theirs: Figures) -> float:
    return mine["first_ms"] / theirs["first_ms"]


def _in_turn(pair: Figures, base: Figures, tuned: Figures) -> float:
    """Speed of both lanes in one pass against the speed of the same two lanes one after the other."""
    return pair["tokens_per_second"] * (1 / base["tokens_per_second"] + 1 / tuned["tokens_per_second"]) / 2


ONE, PAIR = "engine, 1 lane", "engine, base and adapter"
RATIOS = (
    Ratio("compare2_step", "base and adapter in one pass, time of a step against one lane",
          (PAIR, ONE), _step, 1.25, "low"),
    Ratio("compare4_step", "base and three adapters in one pass, time of a step against one lane",
          ("engine, base and three adapters", ONE), _step, 1.7, "low"),
    Ratio("one_after_other", "base and adapter in one pass, speed against one after the other",
          (PAIR, ONE, "engine, 1 lane with an adapter"), _in_turn, 1.7),
    Ratio("two_processes", "base and adapter in one pass, speed against two processes with a model each",
          (PAIR, "two processes, a lane each"), _speed, 1.3),
    Ratio("lora_overhead", "two lanes with an adapter, time of a step against two lanes of the base",
          ("engine, 2 lanes with an adapter", "engine, 2 lanes"), _step, 1.10, "low"),
    Ratio("shadow_step", "the pair, each read by the other's model with KL both ways, time of a step against the pair",
          ("engine, base and adapter with shadows", PAIR), _step, 1.6, "low"),
    Ratio("eight_adapters", "two lanes with an adapter each of eight loaded, time of a step against one loaded",
          ("engine, 2 lanes, 2 of 8 adapters", "engine, 2 lanes with an adapter"), _step, 1.3, "low"),
    Ratio("vs_transformers", "one lane, speed against `generate()`", (ONE, "generate(), 1 row"), _speed, 2.2),
    Ratio("vs_transformers_4", "4 lanes, speed against `generate()`",
          ("engine, 4 lanes", "generate(), 4 rows"), _speed),
    Ratio("vs_transformers_16", "16 lanes, speed against `generate()`",
          ("engine, 16 lanes", "generate(), 16 rows"), _speed, 1.5),
    Ratio("vs_peft", "base and adapter, speed against PEFT's mixed batch",
          (PAIR, "PEFT, base and adapter"), _speed),
    Ratio("vs_batching_4", "4 lanes, speed against transformers' continuous batching",
          ("engine, 4 lanes", "continuous batching, 4 rows"), _speed),
    Ratio("vs_batching_16", "16 lanes, speed against transformers' continuous batching",
          ("engine, 16 lanes", "continuous batching, 16 rows"), _speed),
    Ratio("vs_serve_4", "4 lanes, speed against `transformers serve`",
          ("engine, 4 lanes", "transformers serve, 4 streams"), _speed, 3.0),
    Ratio("vs_llamacpp", "one lane, speed against llama.cpp", (ONE, "llama.cpp, 1 row"), _speed, 0.9),
    Ratio("vs_llamacpp_4", "4 lanes, speed against llama.cpp", ("engine, 4 lanes", "llama.cpp, 4 rows"), _speed, 1.3),
    Ratio("vs_llamacpp_16", "16 lanes, speed against llama.cpp",
          ("engine, 16 lanes", "llama.cpp, 16 rows"), _speed, 1.5),
    Ratio("ttft_vs_llamacpp", "time to the first token of a 200-token prompt against llama.cpp",
          ("engine, prompt of 200", "llama.cpp, prompt of 200"), _first, 0.5, "low"),
    Ratio("ttft_vs_llamacpp_2000", "the same for a 2000-token prompt",
          ("engine, prompt of 2000", "llama.cpp, prompt of 2000"), _first, None, "low"),
    Ratio("ttft_vs_transformers", "time to the first token of a 200-token prompt against `generate()`",
          ("engine, prompt of 200", "generate(), prompt of 200"), _first, None, "low"),
    Ratio("busy_machine", "one lane, speed beside a process at full load against speed without it",
          ("engine, 1 lane beside a busy process", ONE), _speed, 0.8),
)  # fmt: skip
# What is measured otherwise than by two cases side by side.
OTHERS = {
    "compare2_memory": ("memory of the pair in one process against two processes, each by itself", 0.55, "low"),
    "compare2_memory_shared": ("the same, with the libraries that the two share counted once", None, "low"),
    "kl_default": ("mean KL of what runs by default from the float32 model, nats", 0.01, "low"),
    "top1_default": ("share of positions with the same likeliest token as the float32 model", None, "high"),
    "bandwidth_share": ("one lane, share of the speed at which memory can be read", None, "high"),
    "cancel_ms": ("milliseconds from Stop to a lane's end, 2 lanes running", None, "low"),
    "memory": ("MB of memory, base and adapter after their first answers", None, "low"),
}


def compute(rounds: Rounds) -> tuple[dict[str, float], dict[str, str]]:
    """(ratios by key, for those that cannot be computed the case that is missing)."""
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for ratio in RATIOS:
        absent = [case for case in ratio.cases if not rounds.get(case)]
        common = set.intersection(*(set(rounds.get(case, ())) for case in ratio.cases))
        if absent or not common:
            missing[ratio.key] = f"not measured: {', '.join(absent or ratio.cases)}"
        else:
            found[ratio.key] = median(ratio.of(*(rounds[case][one] for case in ratio.cases)) for one in sorted(common))
    return found, missing


def bandwidth_share(rounds: Rounds, weight_bytes: int | None) -> float | None:
    """Bytes of weights read in a second by one lane, of those that the machine can read."""
    lane, limit = rounds.get(ONE, {}), rounds.get("memory, read", {})
    common = sorted(set(lane) & set(limit))
    if weight_bytes is None or not common:
        return None
    return median(weight_bytes / (lane[one]["step_ms"] / 1000) / (limit[one]["gb_per_second"] * 1e9) for one in common)
