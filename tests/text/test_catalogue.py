"""What lies in the registry's folders reaches the engines while they run."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from models_backend import registry
from models_backend.config import Settings
from models_backend.protocol.workers import ModelInfo
from models_backend.text import catalogue
from models_backend.text.engine import Engine
from models_backend.text.open import open_engines
from tests.registry.folders import install, write_adapter


def opened(home: Path) -> Engine:
    return open_engines(Settings(home=home, engine="torch"), "w")["base"]


def ids(engine: Engine) -> list[str]:
    return [info.id for info in engine.models()]


def trained(home: Path, name: str, **config: object) -> Path:
    folder = write_adapter(home / "adapters" / name, "base", title=name.title())
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_adapters_and_checkpoints_that_appear_and_vanish_are_noticed(tmp_path: Path) -> None:
    install(tmp_path, "base")
    one = trained(tmp_path, "one")
    engine = opened(tmp_path)
    told: list[list[str]] = []
    engine._changed = lambda: told.append(ids(engine))
    engine.look()
    assert told == []  # nothing has changed
    trained(tmp_path, "two")
    engine.look()
    assert told == [["base", "ft:base:one", "ft:base:two"]]
    shutil.copytree(one, one / "checkpoints" / "step-5")
    engine.look()
    assert told[1] == ["base", "ft:base:one", "ft:base:one:step-5", "ft:base:two"]
    shutil.rmtree(one)
    engine.look()
    assert told[2] == ["base", "ft:base:two"]


def test_other_files_under_the_same_name_are_another_model(tmp_path: Path) -> None:
    install(tmp_path, "base")
    folder = trained(tmp_path, "one")
    engine = opened(tmp_path)
    heard: list[list[ModelInfo]] = []
    engine._changed = lambda: heard.append(engine.models())
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "use_dora": True}))
    engine.look()
    [[_, tuned]] = heard
    assert "DoRA" in tuned.cannot["strength"]


def test_a_strength_is_refused_by_bases_and_doras_before_anything_is_loaded(tmp_path: Path) -> None:
    install(tmp_path, "base")
    trained(tmp_path, "dora", use_dora=True)
    trained(tmp_path, "plain")
    base, dora, plain = opened(tmp_path).models()
    assert "base model" in base.cannot["strength"]
    assert "DoRA" in dora.cannot["strength"]
    assert "strength" not in plain.cannot


def test_the_lookout_looks_by_itself_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SECONDS", 0.01)
    install(tmp_path, "base")
    engine = opened(tmp_path)
    changed = threading.Event()
    engine.listen(lambda: None, changed.set)
    engine.listen(lambda: None, changed.set)  # twice starts one
    [thread] = [thread for thread in threading.enumerate() if thread.name == "lookout"]
    trained(tmp_path, "late")
    assert changed.wait(20)
    assert ids(engine) == ["base", "ft:base:late"]
    engine.close()
    thread.join(20)
    assert not thread.is_alive()


def test_a_folder_that_cannot_be_read_for_a_moment_takes_no_model_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "base")
    trained(tmp_path, "one")
    engine = opened(tmp_path)

    def broken(home: Path) -> list[registry.Entry]:
        raise OSError("the disk is away")

    monkeypatch.setattr(registry, "models", broken)
    engine.look()
    assert ids(engine) == ["base", "ft:base:one"]


def test_one_look_at_two_hundred_checkpoints_is_quick(tmp_path: Path) -> None:
    """It reads no weights: its cost is that of a few small files."""
    install(tmp_path, "base")
    folder = trained(tmp_path, "one")
    for step in range(200):
        place = folder / "checkpoints" / f"step-{step}"
        place.mkdir(parents=True)
        (place / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        with (place / "adapter_model.safetensors").open("wb") as file:
            file.truncate(1 << 34)  # sparse: reading it would take for ever
    engine = opened(tmp_path)
    assert len(ids(engine)) == 202
    engine.look()
    assert len(ids(engine)) == 202
