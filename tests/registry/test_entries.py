import subprocess
import sys
from pathlib import Path

import pytest

from models_backend import registry
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
    entries = registry.models(tmp_path, committed)
    assert [entry.id for entry in entries] == [DEFAULT, f"ft:{DEFAULT}:tickets", "other", "ft:other:mine"]
    assert [entry.adapter for entry in entries] == [None, shipped, None, mine]
    assert [entry.installed for entry in entries] == [False, False, True, True]
    assert entries[1].title == "Tickets" and entries[1].base == DEFAULT and entries[3].sha256 == "ab" * 32


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
