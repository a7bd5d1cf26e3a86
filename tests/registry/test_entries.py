import json
import subprocess
import sys
from pathlib import Path

import pytest

from models_backend import registry
from models_backend.registry import entries
from models_backend.registry.errors import BadId, UnknownModel
from models_backend.registry.manifest import digest
from tests.registry.folders import install, write_adapter

DEFAULT = "smollm2-135m-instruct"


def test_the_default_model_is_known_before_it_is_pulled(tmp_path: Path) -> None:
    entry = registry.find(DEFAULT, tmp_path)
    assert (entry.installed, entry.folder, entry.sha256) == (False, None, None)
    assert (entry.base, entry.licence, entry.context) == (None, "Apache-2.0", 8192)


def test_a_pulled_model_has_a_folder_and_the_hash_of_its_weights(tmp_path: Path) -> None:
    folder = install(tmp_path, "owner/name")
    entry = registry.find("owner/name", tmp_path)
    assert entry.installed and entry.folder == folder and entry.context == 77
    assert entry.sha256 == digest(folder / "model.safetensors")


def test_fine_tuned_models_follow_their_base(tmp_path: Path) -> None:
    install(tmp_path, "other")
    committed = tmp_path / "committed"
    shipped = write_adapter(committed / "tickets", DEFAULT, title="Tickets")
    mine = write_adapter(tmp_path / "adapters" / "mine", "other")
    found = registry.models(tmp_path, committed)
    assert [entry.id for entry in found] == [DEFAULT, f"ft:{DEFAULT}:tickets", "other", "ft:other:mine"]
    assert [entry.adapter for entry in found] == [None, shipped, None, mine]
    assert [entry.installed for entry in found] == [False, False, True, True]
    assert found[1].title == "Tickets" and found[1].base == DEFAULT and found[3].sha256 == "ab" * 32


def test_an_adapter_whose_base_is_not_here_is_shown_as_not_ready(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapters" / "mine", "owner/gone")
    entry = registry.find("ft:owner/gone:mine", tmp_path, tmp_path / "none")
    assert not entry.installed and entry.base == "owner/gone"
    assert "owner/gone" not in [entry.id for entry in registry.models(tmp_path, tmp_path / "none")]


def test_an_adapter_that_comes_with_diptych_is_not_replaced_by_a_local_one(tmp_path: Path) -> None:
    shipped = write_adapter(tmp_path / "committed" / "tickets", DEFAULT)
    write_adapter(tmp_path / "adapters" / "tickets", DEFAULT)
    found = [e for e in registry.models(tmp_path, tmp_path / "committed") if e.adapter]
    assert [entry.adapter for entry in found] == [shipped]


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"base": "../../etc"}', '{"base": 5}', "\xff"])
def test_an_unusable_card_hides_its_adapter_and_nothing_else(tmp_path: Path, card: str) -> None:
    folder = tmp_path / "adapters" / "bad"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(card, encoding="latin-1")
    write_adapter(tmp_path / "adapters" / "good", DEFAULT)
    assert [e.id for e in registry.models(tmp_path, tmp_path / "none")] == [DEFAULT, f"ft:{DEFAULT}:good"]


def test_a_folder_whose_note_names_another_model_is_left_out(tmp_path: Path) -> None:
    install(tmp_path, "one").rename(tmp_path / "models" / "two")
    assert [entry.id for entry in registry.models(tmp_path, tmp_path / "none")] == [DEFAULT]


def test_an_unknown_id_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=f"No model is called nope.*{DEFAULT}"):
        registry.find("nope", tmp_path)
    with pytest.raises(BadId):
        registry.find("../models/nope", tmp_path)


def test_the_registry_needs_neither_torch_nor_the_hub_library() -> None:
    code = (
        "import sys, pathlib; from models_backend import registry; from models_backend.registry import pull;"
        "registry.models(pathlib.Path('nowhere'));"
        "print({'torch', 'transformers', 'huggingface_hub', 'peft', 'django'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


# Checkpoints ---------------------------------------------------------------------------------------------------------


def steps(folder: Path, *names: str, **facts: str) -> None:
    for name in names:
        place = folder / "checkpoints" / name
        place.mkdir(parents=True)
        (place / "adapter_model.safetensors").write_bytes(b"w")
        (place / "adapter_config.json").write_text("{}")
        if facts:
            (place / "card.json").write_text(json.dumps(facts))


def test_checkpoints_follow_their_model_in_the_order_of_their_steps(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapters" / "mine", DEFAULT, title="Mine", licence="MIT")
    (folder / "adapter_model.safetensors").write_bytes(b"w")
    steps(folder, "step-10", "step-9", "step-120")
    found = registry.models(tmp_path, tmp_path / "none")[1:]
    name = f"ft:{DEFAULT}:mine"
    assert [entry.id for entry in found] == [name, f"{name}:step-9", f"{name}:step-10", f"{name}:step-120"]
    assert [entry.title for entry in found] == ["Mine", "Mine, step 9", "Mine, step 10", "Mine, step 120"]
    assert [entry.checkpoint for entry in found] == [False, True, True, True]
    assert [entry.sha256 for entry in found] == ["ab" * 32, None, None, None]  # the card's is of the last weights
    assert all(entry.licence == "MIT" for entry in found)
    assert registry.find(f"{name}:step-10", tmp_path, tmp_path / "none") == found[2]


def test_while_a_training_runs_its_checkpoints_alone_are_models(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapters" / "mine", DEFAULT)
    steps(folder, "step-1")
    assert [e.id for e in registry.models(tmp_path, tmp_path / "none")][1:] == [f"ft:{DEFAULT}:mine:step-1"]


def test_a_checkpoint_may_have_a_card_but_no_other_base(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapters" / "mine", DEFAULT, title="Mine")
    steps(folder, "step-1", title="Early", adapter_sha256="cd" * 32)
    steps(folder, "step-2", base="other")
    [found] = registry.models(tmp_path, tmp_path / "none")[1:]
    assert (found.title, found.sha256, found.base) == ("Early, step 1", "cd" * 32, DEFAULT)


@pytest.mark.parametrize("name", ["step-", "step--1", "step-01", "step-1e3", ".step-1", "step-1234567890", "last"])
def test_what_is_no_checkpoint_is_no_model(name: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapters" / "mine", DEFAULT)
    steps(folder, name)
    assert [e.id for e in registry.models(tmp_path, tmp_path / "none")][1:] == [f"ft:{DEFAULT}:mine"]


def test_of_very_many_checkpoints_the_newest_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MOST_CHECKPOINTS", 2)
    folder = write_adapter(tmp_path / "adapters" / "mine", DEFAULT)
    steps(folder, *(f"step-{n}" for n in range(5)))
    found = registry.models(tmp_path, tmp_path / "none")[1:]
    assert [entry.id.rpartition(":")[2] for entry in found] == ["step-3", "step-4"]


def test_a_folder_that_is_still_being_written_is_not_listed(tmp_path: Path) -> None:
    place = write_adapter(tmp_path / "adapters" / ".mine", DEFAULT)
    assert [e.id for e in registry.models(tmp_path, tmp_path / "none")] == [DEFAULT]
    place.rename(tmp_path / "adapters" / "mine")
    assert [e.id for e in registry.models(tmp_path, tmp_path / "none")][1:] == [f"ft:{DEFAULT}:mine"]


def test_the_stamp_is_other_when_the_files_are(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapters" / "mine", DEFAULT)
    assert registry.stamp(folder) == ()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"one")
    seen = {registry.stamp(folder)}
    (folder / "adapter_model.safetensors").write_bytes(b"four")
    seen.add(registry.stamp(folder))
    spare = folder / "spare"
    spare.write_bytes(b"five")
    spare.rename(folder / "adapter_model.safetensors")
    seen.add(registry.stamp(folder))
    assert len(seen) == 3
    [found] = registry.models(tmp_path, tmp_path / "none")[1:]
    assert found.stamp in seen


@pytest.mark.parametrize("card", ['{"base": "x", "adapter_sha256": 5}', '{"base": "x", "title": ["a"], "licence": {}}'])
def test_facts_of_a_card_are_text_whatever_was_written(card: str, tmp_path: Path) -> None:
    folder = tmp_path / "adapters" / "odd"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(card)
    [found] = [e for e in registry.models(tmp_path, tmp_path / "none") if e.base]
    assert isinstance(found.title, str) and isinstance(found.licence, str)
    assert found.sha256 is None or isinstance(found.sha256, str)


def test_a_broken_card_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "adapters" / "bad"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{")
    for _ in range(3):
        registry.models(tmp_path, tmp_path / "none")
    assert len([record for record in caplog.records if "bad" in record.message]) == 1
