"""The proof of an adapter catches what other engines got wrong without anybody noticing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models_backend.text import proof
from models_backend.text.contract import Feed
from models_backend.text.lora import Riders
from models_backend.text.modules import pick_runner
from models_backend.text.runner import TorchRunner

from . import tiny

Change = Callable[[Feed], Feed]
Broken = Callable[[Change], TorchRunner]
IDS = proof.probe(tiny.VOCABULARY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the output layer alone."""
    return tiny.adapter(tiny.model(), tmp_path_factory.mktemp("head"), target_modules=["lm_head"])


@pytest.fixture(scope="module")
def shared(folder: Path) -> TorchRunner:
    return opened(folder)


def opened(folder: Path, kind: str = "llama") -> TorchRunner:
    made = pick_runner(tiny.model(kind), Riders(), 4, tiny.CONTEXT)
    tiny.attach(made, "ft", folder)
    return made


@pytest.fixture
def otherwise(shared: TorchRunner, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], TorchRunner]:
    """A runner that computes some feeds as if they were others."""

    def make(change: Change) -> TorchRunner:
        probe = shared.probe
        monkeypatch.setattr(shared, "probe", lambda feeds: probe([change(feed) for feed in feeds]))
        return shared

    return make


def plain(feed: Feed) -> Feed:
    return replace(feed, adapter=None)


def unscored(feed: Feed) -> Feed:
    """Without its adapter where several tokens are scored."""
    return plain(feed) if feed.score and len(feed.score.targets) > 1 else feed


def weak(feed: Feed) -> Feed:
    return replace(feed, strength=1e-4) if feed.adapter == "ft" else feed


def test_a_sound_runner_passes(shared: TorchRunner) -> None:
    assert proof.insight_test(shared, "ft", IDS) is None


def test_a_sound_runner_of_single_rows_passes(tmp_path: Path) -> None:
    folder = tiny.adapter(tiny.model("mamba"), tmp_path, target_modules=["in_proj"])
    assert proof.insight_test(opened(folder, "mamba"), "ft", IDS) is None


def test_scores_without_the_adapter_of_the_output_layer_are_caught(otherwise: Broken) -> None:
    assert "Scored tokens" in (proof.insight_test(otherwise(unscored), "ft", IDS) or "")


def test_a_change_that_is_next_to_nothing_is_neither_doubted_nor_lost(otherwise: Broken) -> None:
    made = otherwise(weak)
    assert proof.insight_test(made, "ft", IDS) is None
    assert "of the base" in (proof.insight_test(otherwise(unscored), "ft", IDS) or "")


def test_an_adapter_that_is_not_there_must_not_be_the_base(otherwise: Broken) -> None:
    made = otherwise(lambda feed: plain(feed) if feed.adapter == proof.NOBODY else feed)
    assert "not there" in (proof.insight_test(made, "ft", IDS) or "")


def test_a_shadow_that_reads_with_another_model_fails_the_proof_and_is_told(
    shared: TorchRunner, folder: Path, otherwise: Broken
) -> None:
    shared.detach("ft")
    before = proof.mixed_pass(shared, None, IDS)
    tiny.attach(shared, "ft", folder)
    assert proof.prove(shared, before, "ft", "0" * 64, IDS).state == "proven"
    found = proof.prove(
        otherwise(lambda feed: plain(feed) if feed.shadows is not None else feed), before, "ft", "0" * 64, IDS
    )
    assert (found.state, found.base_bit_equal) == ("failed", True)
    assert "shadow" in found.detail


def test_a_shadow_has_the_bits_of_the_row_itself_in_a_pass_of_the_same_shape(shared: TorchRunner) -> None:
    feeds = [proof.ask(0, "ft", 0, IDS), replace(proof.ask(1, "ft", 0, IDS), shadows=0)]
    one, two = shared.probe(feeds), shared.probe(feeds)
    assert torch.equal(one, two)
    assert torch.equal(one[0], one[1])
