"""What is said of tokens with the real weights, held against transformers, PEFT and torch's own functions."""

from collections.abc import Iterator, Sequence
from typing import Any

import peft
import pytest
import torch
from torch.nn.functional import kl_div
from transformers import AutoModelForCausalLM, AutoTokenizer

from models_backend import registry
from models_backend.config import DEFAULT_MODEL, Settings
from models_backend.protocol.events import Insight, LaneDone, LaneScored, LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion, Variant
from models_backend.registry import Entry
from models_backend.text.contract import Request
from models_backend.text.engine import Engine
from models_backend.text.open import open_engines

from .tiny import Heard, answer

pytestmark = pytest.mark.model

TEXT = "Ahoy! My radio arrived broken. Please send me another one, or I will have to keelhaul the postman."
EXACT = {"abs": 3e-3, "rel": 1e-3}  # float32, in another order


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return [entry for entry in registry.models(Settings().home) if DEFAULT_MODEL in (entry.id, entry.base)]


@pytest.fixture(scope="module", params=["float32", "auto"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    ready = open_engines(Settings(engine="torch", device="cpu", precision=request.param), "w")[DEFAULT_MODEL]
    ready.load()
    assert isinstance(ready, Engine)
    yield ready
    ready.close()


@pytest.fixture(scope="module")
def plain(entries: list[Entry]) -> Iterator[dict[str, Any]]:
    """For each model, a function from ids to [ids, vocabulary], the log-probabilities of what follows each."""
    base: Any = AutoModelForCausalLM.from_pretrained(entries[0].folder, dtype=torch.float32)
    model: Any = None
    for entry in entries[1:]:
        if model is None:
            model = peft.PeftModel.from_pretrained(base, str(entry.adapter), adapter_name=entry.id.replace(".", "_"))
        else:
            model.load_adapter(str(entry.adapter), adapter_name=entry.id.replace(".", "_"))

    def believes(name: str) -> Any:
        @torch.inference_mode()
        def of(ids: Sequence[int]) -> torch.Tensor:
            batch = torch.tensor([list(ids)])
            if name == DEFAULT_MODEL:
                with model.disable_adapter():
                    return model(input_ids=batch).logits[0].double().log_softmax(-1)
            model.set_adapter(name.replace(".", "_"))
            return model(input_ids=batch).logits[0].double().log_softmax(-1)

        return of

    yield {entry.id: believes(entry.id) for entry in entries}


def insights(heard: Heard) -> list[Insight]:
    return [one for event in heard.events if isinstance(event, LaneToken) for one in event.insight]


def scores(heard: Heard) -> list[Insight]:
    return [one for event in heard.events if isinstance(event, LaneScored) for one in event.insight]


def test_a_text_under_all_models_in_one_prefill(
    engine: Engine, entries: list[Entry], plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine._backend is not None
    runner = engine._backend.runner
    ids = AutoTokenizer.from_pretrained(entries[0].folder)(TEXT).input_ids
    passes: list[int] = []
    forward = runner.forward
    monkeypatch.setattr(runner, "forward", lambda feeds: passes.append(len(feeds)) or forward(feeds))
    params = Params(max_tokens=0, prompt_logprobs=5)
    others = tuple(Variant(entry.id) for entry in entries[1:])
    requests = [Request("r", lane, entry.id, Completion(TEXT), params, 1) for lane, entry in enumerate(entries)]
    heard = answer(engine, *requests)
    assert passes == [len(entries)]
    [shadowed] = answer(engine, Request("r", 9, DEFAULT_MODEL, Completion(TEXT), params, 1, shadows=others))
    assert passes == [len(entries), len(entries)]

    exact = engine.models()[0].precision == "float32"
    rows = {entry.id: plain[entry.id](ids)[:-1] for entry in entries}
    apart = []
    for entry, one in zip(entries, heard, strict=True):
        assert isinstance(one.end, LaneDone)
        assert [seen.id for seen in scores(one)] == ids[1:]
        for seen, row in zip(scores(one), rows[entry.id], strict=True):
            apart.append(abs(seen.logprob - float(row[seen.id])))
            if exact:
                assert seen.logprob == pytest.approx(float(row[seen.id]), **EXACT)
                assert seen.entropy == pytest.approx(float(-(row.exp() * row).sum()), **EXACT)
                assert [each.id for each in seen.top][:2] == row.topk(2).indices.tolist()
    # Weights of 4 bits: a KL of 0.01 to float32, which is what the page promises, is about 0.14 nats of one token.
    assert sum(apart) / len(apart) < (1e-4 if exact else 0.2)
    for place, entry in enumerate(entries[1:]):
        known = []
        for p, q in zip(rows[DEFAULT_MODEL], rows[entry.id], strict=True):
            there, back = (float(kl_div(*pair, log_target=True, reduction="sum")) for pair in ((q, p), (p, q)))
            known.append((there, back))
        found = [(seen.shades[place].kl, seen.shades[place].reverse_kl) for seen in scores(shadowed)]
        for ours, theirs in zip(zip(*found, strict=True), zip(*known, strict=True), strict=True):
            assert sum(ours) == pytest.approx(sum(theirs), rel=1e-3 if exact else 0.2)
            if exact:
                assert ours == pytest.approx(theirs, **EXACT)
        lane = scores(heard[1 + place])
        assert [seen.shades[place].logprob for seen in scores(shadowed)] == pytest.approx(
            [seen.logprob for seen in lane], abs=2e-3
        )


def test_what_decoding_sees_is_what_a_score_of_the_answer_sees(engine: Engine, entries: list[Entry]) -> None:
    tuned, other = entries[1].id, entries[-1].id
    shadows = (Variant(DEFAULT_MODEL), Variant(other))
    ask = Params(temperature=1.0, seed=5, max_tokens=16, top_logprobs=3)
    [said] = answer(engine, Request("r", 0, tuned, Completion(TEXT), ask, 1, shadows=shadows))
    [branch] = answer(
        engine, Request("r", 1, tuned, Completion(TEXT), ask, 1, shadows=shadows, prefix=tuple(said.ids[:9]))
    )
    assert branch.ids == said.ids
    assert branch.text == said.text
    assert len(insights(said)) == len(said.ids)
    for one, two in zip(insights(said), insights(branch), strict=True):
        assert (one.id, one.text) == (two.id, two.text)
        assert one.logprob == pytest.approx(two.logprob, abs=3e-3)
        assert [each.kl for each in one.shades] == pytest.approx([each.kl for each in two.shades], abs=5e-3)
    assert "".join(one.text for one in insights(said)).startswith(said.text[:20])
