"""The default model and the adapters that come with it, against transformers and PEFT themselves."""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models_backend import registry
from models_backend.config import DEFAULT_MODEL, Settings
from models_backend.protocol.events import LaneDone
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Chat, Completion, Message
from models_backend.registry import Entry
from models_backend.text import native
from models_backend.text.contract import Feed, Request, Score
from models_backend.text.engine import Engine
from models_backend.text.open import open_engines

from .tiny import Heard, answer

pytestmark = pytest.mark.model

TOKENS = 24
PROMPTS = (
    Chat((Message("system", "Be brief."), Message("user", "What is the capital of France, and why is it famous?"))),
    Chat((Message("user", "Hello, my radio arrived broken and nobody answers my letters. What can I do?"),)),
    Completion("Once upon a time, in a small village by the sea,"),
)


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    found = [entry for entry in registry.models(Settings().home) if DEFAULT_MODEL in (entry.id, entry.base)]
    assert all(entry.installed for entry in found), f"python -m models_backend pull {DEFAULT_MODEL}"
    assert len(found) > 1
    return found


@pytest.fixture(scope="module", params=["float32", "auto"])
def engine(request: pytest.FixtureRequest, entries: list[Entry]) -> Iterator[Engine]:
    """Over transformers' modules, the oracle's equal, and as it runs by default, over packed weights."""
    yield opened(request.param)


@pytest.fixture(scope="module")
def plain() -> Engine:
    return opened("float32")


@pytest.fixture(scope="module")
def packed() -> Engine:
    ready = opened("auto")
    assert ready.models()[0].precision == ("4-bit" if native.fast() else "float32")
    return ready


@cache
def opened(precision: Literal["auto", "float32"]) -> Engine:
    ready = open_engines(Settings(engine="torch", device="cpu", precision=precision), "w")[DEFAULT_MODEL]
    ready.load()
    return ready


@pytest.fixture(scope="module")
def expected(entries: list[Entry]) -> dict[tuple[str, int], list[int]]:
    """What generate() answers greedily: the plain base, and each adapter through PEFT. By (model, number of prompt)."""
    tokenizer = AutoTokenizer.from_pretrained(entries[0].folder)
    answers = {}
    for entry in entries:
        model: Any = AutoModelForCausalLM.from_pretrained(entries[0].folder, dtype=torch.float32)
        if entry.adapter is not None:
            model = peft.PeftModel.from_pretrained(model, str(entry.adapter))
        for number, prompt in enumerate(PROMPTS):
            ids = torch.tensor([ids_of(tokenizer, prompt)])
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS
            )
            answers[entry.id, number] = out[0, ids.shape[1] :].tolist()
    return answers


def ids_of(tokenizer: Any, prompt: Chat | Completion) -> list[int]:
    if isinstance(prompt, Completion):
        return list(tokenizer(prompt.text).input_ids)
    messages = [{"role": one.role, "content": one.content} for one in prompt.messages]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])


def ask(number: int, model: str, lane: int = 0, **params: Any) -> Request:
    return Request("r", lane, model, PROMPTS[number], Params(**{"max_tokens": TOKENS, **params}), seed=11)


def test_greedy_equals_generate_for_base_and_adapters_alone(
    plain: Engine, expected: dict[tuple[str, int], list[int]], entries: list[Entry]
) -> None:
    for (model, number), ids in expected.items():
        [heard] = answer(plain, ask(number, model, temperature=0.0))
        assert heard.ids == ids, (model, number)


def test_greedy_equals_generate_for_base_and_adapters_in_one_batch(
    plain: Engine, expected: dict[tuple[str, int], list[int]], entries: list[Entry]
) -> None:
    requests = [ask(number, model, lane, temperature=0.0) for lane, (model, number) in enumerate(expected)]
    heard = answer(plain, *requests)
    assert [one.ids for one in heard] == list(expected.values())


def test_what_runs_by_default_stays_close_to_float32(
    packed: Engine, expected: dict[tuple[str, int], list[int]], entries: list[Entry]
) -> None:
    """Base and adapters, over the prompts and float32's own answers to them: KL of each next token."""
    tokenizer = AutoTokenizer.from_pretrained(entries[0].folder)
    for entry in entries:
        divergences = []
        model: Any = AutoModelForCausalLM.from_pretrained(entries[0].folder, dtype=torch.float32)
        if entry.adapter is not None:
            model = peft.PeftModel.from_pretrained(model, str(entry.adapter))
        for number, prompt in enumerate(PROMPTS):
            ids = [*ids_of(tokenizer, prompt), *expected[entry.id, number]]
            with torch.inference_mode():
                wanted = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            found = logits(packed, entry, ids).log_softmax(-1)
            divergences.append((wanted.exp() * (wanted - found)).sum(-1))
        assert float(torch.cat(divergences).mean()) < 0.01, entry.id


@pytest.mark.skipif(not native.fast(), reason="promised of packed weights alone")
def test_by_default_a_lane_has_the_same_bits_alone_beside_others_and_in_a_prompt(packed: Engine) -> None:
    base, *tuned = [entry for entry in registry.models(Settings().home) if DEFAULT_MODEL in (entry.id, entry.base)]
    ids = list(range(400, 440))
    alone = logits(packed, base, ids)
    beside = runner_of(packed).probe([asked(0, None, ids), asked(1, named(packed, tuned[0]), ids), asked(2, None, ids)])
    assert torch.equal(beside[:40], alone) and torch.equal(beside[80:], alone)
    assert torch.equal(logits(packed, base, ids[:20]), alone[:20])


def logits(engine: Engine, entry: Entry, ids: list[int]) -> torch.Tensor:
    """[ids, vocabulary]"""
    return runner_of(engine).probe([asked(0, named(engine, entry), ids)])


def runner_of(engine: Engine) -> Any:
    assert engine._backend is not None
    return engine._backend.runner


def named(engine: Engine, entry: Entry) -> str | None:
    """What the runner calls an adapter."""
    if entry.base is None:
        return None
    assert engine._backend is not None and engine._backend.adapters is not None
    [name] = engine._backend.adapters.carry([entry.id]) or [None]
    assert name is not None
    return name


def asked(slot: int, adapter: str | None, ids: list[int]) -> Feed:
    return Feed(slot, adapter, 0, ids, None, score=Score([0] * len(ids), 0))


def test_base_and_adapters_answer_differently(expected: dict[tuple[str, int], list[int]], entries: list[Entry]) -> None:
    assert len({tuple(expected[entry.id, 1]) for entry in entries}) == len(entries)


def test_every_adapter_is_proven(engine: Engine, entries: list[Entry]) -> None:
    proofs = {info.id: info.proof for info in engine.models() if info.base}
    assert set(proofs) == {entry.id for entry in entries if entry.base}
    for entry in entries:
        if entry.base:
            found = proofs[entry.id]
            assert found is not None
            assert (found.state, found.base_bit_equal) == ("proven", True)
            assert found.adapter_sha256 == entry.sha256


def test_a_seeded_answer_is_the_same_alone_and_in_company(engine: Engine, entries: list[Entry]) -> None:
    tuned = entries[1].id
    [alone] = answer(engine, ask(0, tuned, temperature=0.9, top_p=0.95))
    mixed = answer(
        engine,
        ask(1, DEFAULT_MODEL, 1, temperature=1.0, seed=5),
        ask(0, tuned, 0, temperature=0.9, top_p=0.95),
        ask(2, tuned, 2, temperature=0.0, max_tokens=7),
    )
    assert mixed[1].ids == alone.ids
    assert mixed[1].text == alone.text


def test_an_answer_that_is_continued_is_the_unbroken_one(engine: Engine) -> None:
    [whole] = answer(engine, ask(1, DEFAULT_MODEL, temperature=1.0))
    for cut in (1, 7, len(whole.ids) - 1):
        request = ask(1, DEFAULT_MODEL, temperature=1.0)
        again = Request(request.run, 0, request.model, request.prompt, request.params, 11, 2, tuple(whole.ids[:cut]))
        [rest] = answer(engine, again)
        assert whole.ids[:cut] + rest.ids == whole.ids
        assert whole.text.endswith(rest.text)


def test_a_stop_string_ends_the_text_before_it(engine: Engine) -> None:
    [whole] = answer(engine, ask(2, DEFAULT_MODEL, temperature=0.0))
    words = whole.text.split(" ")
    stop = " ".join(words[9:11])[1:-1]  # begins and ends inside words, so inside tokens or across them
    [cut] = answer(engine, ask(2, DEFAULT_MODEL, temperature=0.0, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert isinstance(cut.end, LaneDone)
    assert cut.end.finish == "stop"


def test_the_end_token_ends_an_answer_and_is_not_shown(engine: Engine) -> None:
    [heard] = answer(engine, ask(0, DEFAULT_MODEL, temperature=0.0, max_tokens=200))
    assert isinstance(heard.end, LaneDone)
    assert heard.end.finish == "stop"
    assert heard.ids[-1] == 2
    assert "<|im_end|>" not in heard.text


def test_text_is_cut_at_characters_only(engine: Engine) -> None:
    prompt = Completion("Emoji list: 🌊 wave, 🌿 leaf, 👩‍🚀 astronaut, 🇳🇴 flag, 日本 Japan, 🌊")
    heard: Heard = answer(engine, Request("r", 0, DEFAULT_MODEL, prompt, Params(temperature=1.3, max_tokens=60), 3))[0]
    pieces = [event.text for event in heard.events if getattr(event, "text", None)]
    assert heard.text == "".join(pieces)
    assert not any(left.endswith("\ufffd") and right.startswith("\ufffd") for left, right in pairwise(pieces))
