"""From a folder to a runner: packed once, held against float32, and left to float32 where that is better."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from models_backend.config import Settings
from models_backend.text import loader, native
from models_backend.text.native import opening, packed_file
from models_backend.text.native.runner import NativeRunner

from . import models
from .test_runner import IDS, row


def encode(text: str) -> list[int]:
    return [(ord(letter) * 7) % models.VOCABULARY for letter in text[:60]]


def opened(folder: Path, notes: list[str] | None = None, threads: int | None = 1) -> NativeRunner | None:
    said: list[str] = [] if notes is None else notes
    return opening.open_runner(folder, encode, 4, models.CONTEXT, 1 << 30, threads, said.append)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models.model("llama").save_pretrained(tmp_path)
    return tmp_path


def test_weights_are_packed_once_and_then_read(folder: Path) -> None:
    first: list[str] = []
    second: list[str] = []
    made, again = opened(folder, first), opened(folder, second)
    assert made is not None and again is not None
    assert any("Packing" in note for note in first) and not any("Packing" in note for note in second)
    assert torch.equal(made.logits([row(0, IDS)]), again.logits([row(0, IDS)]))
    assert 0 < float(packed_file.read(folder).facts["kl"]) < opening.MAX_KL


def test_what_is_written_is_what_transformers_would_say(folder: Path) -> None:
    runner = opened(folder)
    assert runner is not None
    models.near(runner.logits([row(0, IDS)]), models.said(models.model("llama"), IDS))


def test_a_damaged_file_is_packed_anew(folder: Path) -> None:
    opened(folder)
    whole = (folder / packed_file.NAME).read_bytes()
    (folder / packed_file.NAME).write_bytes(whole[:-100])
    assert opened(folder) is not None
    assert (folder / packed_file.NAME).read_bytes() == whole


def test_a_file_with_the_facts_of_another_config_is_packed_anew(folder: Path) -> None:
    opened(folder)
    shape = packed_file.read(folder).facts["shape"]
    file = packed_file.lay_out({"norm": packed_file.np.ones(16, packed_file.np.float32)})
    packed_file.write(folder, file, {"kl": "0.001", "shape": shape})
    runner = opened(folder)
    assert runner is not None
    models.near(runner.logits([row(0, IDS)]), models.said(models.model("llama"), IDS))


def test_answers_that_would_move_too_far_are_left_to_float32_and_not_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "MAX_KL", 1e-9)
    with caplog.at_level(logging.WARNING):
        assert opened(folder) is None
    assert "float32 serves it" in caplog.text
    notes: list[str] = []
    assert opened(folder, notes) is None and not notes


@pytest.mark.parametrize(
    ("kind", "options"),
    [("gemma2", {}), ("llama", {"hidden_act": "gelu"}), ("llama", {"intermediate_size": 90}), ("gpt2", {})],
)
def test_models_that_the_kernels_do_not_know_are_left_to_transformers(
    kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    made = models.tiny.model(kind, **({**models.SIZES, **options} if kind != "gpt2" else options))
    made.save_pretrained(tmp_path)
    assert opened(tmp_path) is None
    assert not (tmp_path / packed_file.NAME).exists()


def test_weights_that_are_no_numbers_are_left_to_transformers(tmp_path: Path) -> None:
    made = models.model("llama")
    with torch.no_grad():
        made.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    made.save_pretrained(tmp_path)
    assert opened(tmp_path) is None


def test_threads_that_are_not_given_are_measured(folder: Path) -> None:
    runner = opened(folder, threads=None)
    assert runner is not None and runner.threads >= 1
    assert (folder / "native.threads.json").is_file()


@pytest.mark.parametrize(("how", "precision"), [("vnni512", "8-bit"), ("avx2", "8-bit"), ("plain", "float32")])
def test_a_processor_that_cannot_add_up_bytes_has_float32(
    how: str, precision: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(folder)
    monkeypatch.setattr(native, "DOT", how)
    dialect = models.tiny.Numbers()
    dialect.encode = lambda prompt: encode(prompt.text)  # type: ignore[method-assign]
    settings = Settings(device="cpu", slots=4, context=models.CONTEXT, threads=1)
    runner = loader._open_runner(folder, dialect, torch.device("cpu"), settings, lambda note: None)  # type: ignore[arg-type]
    assert runner.precision == precision
