"""Adapters on the compiled step answer like the models that PEFT merges; rows without one keep the base's bits."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from models_backend.text.adapter_file import AdapterFile
from models_backend.text.adapter_weights import read
from models_backend.text.contract import EngineError, Feed, Score
from models_backend.text.native.runner import NativeRunner

from . import models

IDS = [(i * 37 + 11) % models.VOCABULARY for i in range(50)]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tuned(made: Any, folder: Path, seed: int, **options: Any) -> Any:
    """Make an adapter in `folder`; returns the model as PEFT merges it."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": LINEAR, **options})
    over = peft.get_peft_model(copy.deepcopy(made), config)
    with torch.no_grad():
        for name, parameter in over.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.normal_(0, 0.15)
            elif "magnitude" in name:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.7, 1.4))
    over.save_pretrained(folder)
    return over.merge_and_unload()


def attach(runner: NativeRunner, name: str, folder: Path) -> None:
    runner.attach(runner.prepare(read(name, AdapterFile.read(folder))))


def row(slot: int, adapter: str | None, strength: float = 1.0) -> Feed:
    return Feed(slot, adapter, 0, IDS, None, strength, score=Score([0] * len(IDS), 0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_modules": ["k_proj", "up_proj"]},
        {"target_modules": [*LINEAR, "lm_head"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"use_dora": True},
        {"rank_pattern": {"v_proj": 9}, "alpha_pattern": {"down_proj": 3}},
        {"use_rslora": True, "r": 19},
    ],
    ids=["all", "some", "head", "embedding", "dora", "patterns", "rslora"],
)
def test_a_row_with_an_adapter_answers_like_the_merged_model(options: dict[str, Any], tmp_path: Path) -> None:
    made = models.model("llama")
    merged = tuned(made, tmp_path, 3, **options)
    runner = models.runner(made)
    plain = runner.logits([row(0, None)])
    attach(runner, "a", tmp_path)
    found = runner.logits([row(0, None), row(1, "a")])
    assert torch.equal(found[: len(IDS)], plain)
    expected = models.said(merged, IDS)
    assert float((expected.exp() * (expected - plain.log_softmax(-1))).sum(-1).mean()) > 0.1  # they differ at all
    models.near(found[len(IDS) :], expected, 0.02)


def test_a_tied_head_is_changed_without_the_embedding(tmp_path: Path) -> None:
    made = models.model("llama", tie_word_embeddings=True)
    runner = models.runner(made)
    tuned(made, tmp_path, 4, target_modules=["lm_head"])  # the file repeats the base's head, as PEFT does
    attach(runner, "a", tmp_path)
    change = read("a", AdapterFile.read(tmp_path)).changes["lm_head"]
    hidden = made.model(input_ids=torch.tensor([IDS])).last_hidden_state[0]
    expected = made.lm_head(hidden) + hidden @ change.down @ change.up
    models.near(runner.logits([row(1, "a")]), expected.log_softmax(-1), 0.02)


def test_strengths_scale_between_the_base_and_beyond_the_adapter(tmp_path: Path) -> None:
    made = models.model("llama")
    tuned(made, tmp_path, 5)
    runner = models.runner(made)
    attach(runner, "a", tmp_path)
    strengths = [-0.5, 0.0, 0.4, 1.0, 2.0]
    found = runner.logits([row(slot, "a", strength) for slot, strength in enumerate(strengths)]).split(len(IDS))
    assert torch.equal(found[1], runner.logits([row(5, None)]))
    for strength, logits in zip(strengths, found, strict=True):
        over = peft.PeftModel.from_pretrained(copy.deepcopy(made), str(tmp_path))
        for module in over.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.set_scale("default", strength)
        models.near(logits, models.said(over, IDS), 0.03)


def test_many_adapters_come_and_go_and_rows_keep_their_own(tmp_path: Path) -> None:
    made = models.model("llama")
    runner = models.runner(made)
    alone = {}
    for number in range(9):
        tuned(made, tmp_path / str(number), number, target_modules=["v_proj"])
        attach(runner, str(number), tmp_path / str(number))
        alone[str(number)] = runner.logits([row(0, str(number))])
    for gone in ("2", "5", "7"):
        runner.detach(gone)
    attach(runner, "new", tmp_path / "3")
    found = runner.logits([row(0, "8"), row(1, "new"), row(2, "0"), row(3, None), row(4, "6")]).split(len(IDS))
    for logits, name in zip(found, ("8", "3", "0", None, "6"), strict=True):
        expected = runner.logits([row(5, None)]) if name is None else alone[name]
        assert torch.equal(logits, expected)
    with pytest.raises(EngineError):
        runner.logits([row(0, "5")])


def test_adapters_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    runner = models.runner(models.model("llama"))
    tuned(models.model("llama", hidden_size=192), tmp_path / "narrow", 1)
    tuned(models.model("llama", num_hidden_layers=3), tmp_path / "deep", 1)
    with pytest.raises(EngineError, match="inputs and outputs"):
        attach(runner, "a", tmp_path / "narrow")
    with pytest.raises(EngineError, match=r"layers\.2"):
        attach(runner, "a", tmp_path / "deep")


def test_weights_too_large_for_the_kernels_are_refused(tmp_path: Path) -> None:
    made = models.model("llama")
    tuned(made, tmp_path, 1, lora_alpha=900_000)
    with pytest.raises(EngineError, match="float16"):
        attach(models.runner(made), "a", tmp_path)


def test_the_strength_of_a_dora_adapter_is_refused(tmp_path: Path) -> None:
    made = models.model("llama")
    tuned(made, tmp_path, 6, use_dora=True)
    runner = models.runner(made)
    attach(runner, "a", tmp_path)
    with pytest.raises(EngineError, match="DoRA"):
        runner.logits([row(0, "a", 0.5)])
