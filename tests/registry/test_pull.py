import errno
import multiprocessing
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from models_backend import registry
from models_backend.registry import entries, manifest, pull, store
from models_backend.registry.errors import BadId, NoSpace, RefusedFormat, RegistryError, UnknownModel
from models_backend.registry.progress import Progress, Watcher
from tests.registry.folders import install, write_adapter, write_model


def silent(progress: Progress) -> None:
    pass


def no_convert(gguf: Path, folder: Path, generation: Mapping[str, Any], watch: Watcher) -> None:
    raise AssertionError("nothing here is a GGUF")


def leftovers(home: Path) -> list[str]:
    """What lies in the models folder besides the lock."""
    return sorted(path.name for path in (home / "models").iterdir() if path.name != ".lock")


def test_a_local_folder_is_copied_noted_and_found(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    (source / "notes.py").write_text("raise SystemExit")
    (source / "optimizer.pt").write_bytes(b"pickle")
    entry = pull.adopt(source, "mine", tmp_path / "home", no_convert, silent)
    assert entry.installed and entry.context == 77
    files = sorted(path.name for path in entry.folder.iterdir())
    assert files == ["config.json", "diptych.json", "model.safetensors", "tokenizer.json"]
    note = manifest.read(entry.folder)
    assert note.files == manifest.digests(entry.folder) and note.source == "folder:source"


def test_a_gguf_file_is_handed_to_the_converter(tmp_path: Path) -> None:
    gguf = tmp_path / "small.gguf"
    gguf.write_bytes(b"GGUF")

    def convert(file: Path, folder: Path, generation: Mapping[str, Any], watch: Watcher) -> None:
        assert file == gguf
        write_model(folder)

    entry = pull.adopt(gguf, "small", tmp_path / "home", convert, silent)
    assert manifest.read(entry.folder).source_sha256 == manifest.digest(gguf)


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
def test_pickled_weights_are_refused_and_nothing_is_left(tmp_path: Path, weights: str) -> None:
    source = write_model(tmp_path / "source")
    (source / "model.safetensors").rename(source / weights)
    with pytest.raises(RefusedFormat, match=f"only as {weights}"):
        pull.adopt(source, "mine", tmp_path / "home", no_convert, silent)
    assert leftovers(tmp_path / "home") == []


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_half_a_model_is_refused(tmp_path: Path, missing: str) -> None:
    source = write_model(tmp_path / "source")
    (source / missing).unlink()
    with pytest.raises(RefusedFormat, match=missing.split(".")[0]):
        pull.adopt(source, "mine", tmp_path / "home", no_convert, silent)


@pytest.mark.parametrize("name", ["../mine", "a/../../b", "/tmp/x", "", "ft:a:b"])
def test_a_name_never_leads_out_of_the_models_folder(tmp_path: Path, name: str) -> None:
    source = write_model(tmp_path / "source")
    with pytest.raises(BadId):
        pull.adopt(source, name, tmp_path / "home", no_convert, silent)
    assert not (tmp_path / "home").exists()


def test_a_second_pull_changes_nothing(tmp_path: Path) -> None:
    first = pull.adopt(write_model(tmp_path / "source"), "mine", tmp_path / "home", no_convert, silent)
    before = (first.folder / "diptych.json").stat().st_mtime_ns
    second = pull.adopt(tmp_path / "source", "mine", tmp_path / "home", no_convert, silent)
    assert second == first and (first.folder / "diptych.json").stat().st_mtime_ns == before


def test_pulling_a_fine_tuned_model_asks_for_its_base_only(tmp_path: Path) -> None:
    install(tmp_path, "base")
    write_adapter(tmp_path / "adapters" / "mine", "base")
    assert pull.pull("ft:base:mine", tmp_path, no_convert, silent).installed
    with pytest.raises(UnknownModel):
        pull.pull("ft:base:other", tmp_path, no_convert, silent)


def test_an_unknown_name_is_not_looked_for_anywhere(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="smollm2-135m-instruct"):
        pull.pull("unheard-of", tmp_path, no_convert, silent)


def test_a_failing_conversion_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")

    def convert(gguf: Path, folder: Path, generation: Mapping[str, Any], watch: Watcher) -> None:
        write_model(folder)
        raise RefusedFormat("bad")

    with pytest.raises(RefusedFormat):
        pull.adopt(tmp_path / "x.gguf", "mine", tmp_path / "home", convert, silent)
    assert leftovers(tmp_path / "home") == []


def test_a_disk_that_fills_up_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")

    def convert(gguf: Path, folder: Path, generation: Mapping[str, Any], watch: Watcher) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NoSpace, match="free some space"):
        pull.adopt(tmp_path / "x.gguf", "mine", tmp_path / "home", convert, silent)
    assert leftovers(tmp_path / "home") == []


def test_a_model_larger_than_the_disk_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    store.root(tmp_path).mkdir()
    with pytest.raises(NoSpace, match="DIPTYCH_HOME"):
        store.need_space(tmp_path, 10**18)


def _killed(home: Path) -> None:
    with store.locked(home, lambda: None), store.partial(home) as work:
        (work / "half").write_bytes(b"x")
        os._exit(9)


def test_what_a_killed_pull_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9 and len(leftovers(tmp_path)) == 1
    assert registry.models(tmp_path, tmp_path / "none")[1:] == []  # half a model is no model
    pull.adopt(write_model(tmp_path / "source"), "mine", tmp_path, no_convert, silent)
    assert leftovers(tmp_path) == ["mine"]


def test_a_pull_waits_for_the_other_that_is_running(tmp_path: Path) -> None:
    source, waited = write_model(tmp_path / "source"), []
    lock = store.locked(tmp_path, lambda: None)
    lock.__enter__()

    def watch(progress: Progress) -> None:
        if progress.phase.startswith("waiting"):
            waited.append(progress)
            lock.__exit__(None, None, None)  # the other ends as soon as we wait for it

    assert pull.adopt(source, "mine", tmp_path, no_convert, watch).installed
    assert len(waited) == 1


def test_a_removed_model_is_gone_and_removing_it_again_says_so(tmp_path: Path) -> None:
    folder = install(tmp_path, "owner/name")
    other = install(tmp_path, "other")
    pull.remove("owner/name", tmp_path)
    assert not folder.exists() and other.exists() and leftovers(tmp_path) == ["other"]
    with pytest.raises(UnknownModel):
        pull.remove("owner/name", tmp_path)
    with pytest.raises(UnknownModel, match="not on this disk"):
        pull.remove("smollm2-135m-instruct", tmp_path)


def test_a_local_adapter_can_be_removed_and_a_shipped_one_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[..., registry.Entry] = entries.find
    shipped = write_adapter(tmp_path / "committed" / "tickets", "base")
    mine = write_adapter(tmp_path / "adapters" / "mine", "base")
    monkeypatch.setattr(entries, "find", lambda id, home: find(id, home, tmp_path / "committed"))
    store.root(tmp_path).mkdir()
    pull.remove("ft:base:mine", tmp_path)
    assert not mine.exists()
    with pytest.raises(RegistryError, match="comes with Diptych"):
        pull.remove("ft:base:tickets", tmp_path)
    assert shipped.exists()
