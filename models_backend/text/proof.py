"""Evidence at load: that the batched runner computes what the model computes, and that an adapter makes another model.

All comparisons are of logits on probe ids, which need no tokenizer. Cheap: a few short passes.
"""

import math
from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from models_backend.protocol.workers import Proof

from .adapter_weights import AdapterWeights
from .contract import EngineError, Feed, Score
from .draw import outcomes
from .runner import TorchRunner

PROBE = 16  # ids
PROVEN = 8  # ids for an adapter: rows that are at work wait for them
DECODED = 3  # of them, one by one
# Share of the largest logit by which two right ways to compute it may differ (order of sums), by bytes of the type.
NOBODY = "no adapter has this name"
SAME = 1e-3  # nats, between a model and itself
TOLERANCE = {8: 1e-6, 4: 1e-3, 2: 6e-2}


def probe(vocabulary: int, row: int = 0, length: int = PROBE) -> list[int]:
    """Ids spread over the vocabulary, other ones for each `row`."""
    return [(7919 * (i + 1) + 104729 * row) % vocabulary for i in range(length)]


def ask(slot: int, adapter: str | None, start: int, ids: Sequence[int]) -> Feed:
    """A feed that wants the logits behind its last id. Which token is scored there does not matter to them."""
    return Feed(slot, adapter, start, ids, None, score=Score((0,), 0))


@torch.inference_mode()
def reference(model: torch.nn.Module, vocabulary: int) -> Tensor:
    """Logits after each probe of `self_test`, by the plain model, each probe alone and without any cache."""
    device = next(model.parameters()).device
    batches = [torch.tensor([row], device=device) for row in _rows(vocabulary)]
    return torch.stack([model(input_ids=batch, use_cache=False).logits[0, -1] for batch in batches])


def self_test(runner: TorchRunner, expected: Tensor, vocabulary: int) -> str | None:
    """Run two rows of unequal length in chunks and single steps; return what is wrong with the result, or None."""
    rows = _rows(vocabulary)
    try:
        found = _by_steps(runner, rows)
    except Exception as error:  # whatever an unknown architecture does with a cache that it does not know
        return f"{type(error).__name__}: {error}"
    finally:
        for slot in range(len(rows)):
            runner.release(slot)
    worst = float((found.float() - expected.float()).abs().max())
    allowed = TOLERANCE[expected.element_size()] * float(expected.float().abs().max())
    return None if worst <= allowed else f"logits are off by {worst:.3g}, more than {allowed:.3g}"


def probe_for(weights: AdapterWeights, vocabulary: int) -> list[int]:
    """A short probe; half of it other ids for an adapter of the embedding, which may have trained those alone."""
    ids = probe(vocabulary, length=PROVEN)
    for change in weights.changes.values():
        if change.embedding:
            moved = change.down[:vocabulary].abs().sum(1)
            count = min(PROVEN // 2, len(moved))
            ids[-count:] = [int(i) for i in moved.topk(count).indices]
    return ids


def mixed_pass(runner: TorchRunner, adapter: str | None, ids: Sequence[int]) -> Tensor:
    """Logits [2, vocabulary] of two rows on the same probe: the base's, and one that carries `adapter`."""
    return runner.probe([ask(0, None, 0, ids), ask(1, adapter, 0, ids)])


def prove(runner: TorchRunner, plain: Tensor, adapter: str, sha256: str, ids: Sequence[int]) -> Proof:
    """Hold the base row of a mixed pass against `plain`, the same pass on the same ids before it was attached."""
    stages = proving(runner, plain, adapter, sha256, ids)
    while True:
        try:
            next(stages)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def proving(
    runner: TorchRunner, plain: Tensor, adapter: str, sha256: str, ids: Sequence[int]
) -> Generator[None, None, Proof]:
    """`prove`, one pass at a time: others may be computed in between."""
    mixed = mixed_pass(runner, adapter, ids)
    equal = bool(torch.equal(mixed[0], plain[0]))
    delta = float((mixed[1].float() - mixed[0].float()).abs().max())
    finite = math.isfinite(delta)
    if finite:
        yield
    wrong = insight_test(runner, adapter, ids) if finite else None
    proven = equal and finite and delta > 0 and wrong is None
    words = [
        "The base row is bit-equal to the base without adapters." if equal else "The base row has changed.",
        f"The adapter moves a logit by up to {delta:.3g}."
        if finite
        else "The adapter makes logits that are not finite.",
    ]
    if wrong is not None:
        words.append(wrong)
    return Proof("proven" if proven else "failed", equal, delta if finite else 0.0, sha256, " ".join(words))


def insight_test(runner: TorchRunner, adapter: str, ids: Sequence[int]) -> str | None:
    """Whether what is said of known tokens is of the very model that draws; returns what is wrong, or None.

    Engines got this wrong without anybody noticing: scores of a prompt without the adapter's change of the output
    layer (vLLM), an adapter that is not there answered by the base (PEFT).
    """
    try:
        runner.probe([ask(0, NOBODY, 0, ids[:1])])
        return "An adapter that is not there was taken for the base."
    except EngineError:
        pass
    cut = len(ids) - DECODED
    known = Score([*ids[1:], ids[0]], 1)
    feeds = [
        Feed(0, adapter, 0, ids, None, score=known),
        Feed(1, adapter, 0, ids, None, score=known, shadows=0),
        ask(2, adapter, 0, ids[:cut]),
        ask(3, None, 0, ids[:cut]),
    ]
    logits = runner.probe(feeds)
    scored, drawn, plain = (logits[row].float() for row in (cut - 1, 2 * len(ids), 2 * len(ids) + 1))
    apart = float((scored - drawn).abs().max())
    if apart > TOLERANCE[logits.element_size()] * float(drawn.abs().max()):
        return f"Scored tokens have other logits than drawn ones, by up to {apart:.3g}."
    if float((scored - plain).abs().max()) < apart / 4:  # a change as small as this still shows whose side they are on
        return "Scored tokens have the logits of the base."
    seen = outcomes(logits, feeds)[0].scored
    if any(max(shade.kl, shade.reverse_kl) > SAME for one in seen for shade in one.shades) or len(seen) < len(ids):
        return "A shadow of the same model sees another one."
    return None


def _rows(vocabulary: int) -> list[list[int]]:
    return [probe(vocabulary, 0), probe(vocabulary, 1, PROBE - 5)]


def _by_steps(runner: TorchRunner, rows: Sequence[list[int]]) -> Tensor:
    """Feed `rows` as the engine would: the first in two chunks, the second beside its second one, then decode."""

    def piece(row: int, start: int, end: int) -> Feed:
        return ask(row, None, start, rows[row][start:end])

    ends = [len(row) - DECODED for row in rows]
    if runner.chunk is None:
        runner.logits([piece(0, 0, ends[0]), piece(1, 0, ends[1])])
    else:
        runner.logits([piece(0, 0, 4)])
        runner.logits([piece(0, 4, ends[0]), piece(1, 0, ends[1])])
    for step in range(DECODED):
        found = runner.logits([piece(row, end + step, end + step + 1) for row, end in enumerate(ends)])
    return found
