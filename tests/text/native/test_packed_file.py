"""The packed file is all there, belongs to its model, or is not used."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from models_backend.text.native import packed_file
from models_backend.text.native.packed_file import NAME, Unreadable

TENSORS = {
    "a.4": np.arange(128, dtype=np.uint8).reshape(2, 64),
    "a.scales": np.linspace(0, 1, 64).astype(np.float16).reshape(2, 32),
    "norm": np.arange(16, dtype=np.float32),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    packed_file.write(tmp_path, packed_file.lay_out(TENSORS), {"kl": "0.001"})
    return tmp_path


def test_it_is_read_as_it_was_written_and_lies_on_lines(folder: Path) -> None:
    file = packed_file.read(folder)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(file.tensor(name), tensor)
        assert file.tensor(name).ctypes.data % 64 == 0
    assert file.facts["kl"] == "0.001" and "norm" in file and "other" not in file


def test_other_tools_can_read_it(folder: Path) -> None:
    (folder / NAME).rename(folder / "copy.safetensors")
    np.testing.assert_array_equal(load_file(folder / "copy.safetensors")["norm"], TENSORS["norm"])


def test_a_model_that_changed_is_packed_anew(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(Unreadable, match="another model"):
        packed_file.read(folder)


def test_a_half_written_file_is_never_seen(folder: Path) -> None:
    before = (folder / NAME).read_bytes()
    with pytest.raises(AttributeError):
        packed_file.write(folder, packed_file.lay_out(TENSORS), {"kl": object().missing})  # type: ignore[attr-defined]
    assert (folder / NAME).read_bytes() == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(NAME)] == [NAME]


def header(folder: Path, **changes: object) -> None:
    raw = (folder / NAME).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    text = json.dumps({**json.loads(raw[8 : 8 + length]), **changes}).encode()
    (folder / NAME).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_not_used(folder: Path, cut: int) -> None:
    (folder / NAME).write_bytes((folder / NAME).read_bytes()[:cut])
    with pytest.raises(Unreadable):
        packed_file.read(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": {"dtype": "F32", "shape": [16], "data_offsets": [256, 1 << 40]}},
        {"norm": {"dtype": "F32", "shape": [16], "data_offsets": [-64, 0]}},
        {"norm": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [256, 320]}},
        {"norm": {"dtype": "O", "shape": [16], "data_offsets": [256, 320]}},
        {"norm": 3},
        {"__metadata__": []},
    ],
    ids=["beyond", "before", "shape", "type", "no entry", "no facts"],
)
def test_a_header_that_lies_is_not_believed(folder: Path, changes: dict[str, object]) -> None:
    header(folder, **changes)
    with pytest.raises(Unreadable):
        packed_file.read(folder)


def test_an_enormous_header_is_not_read(folder: Path) -> None:
    (folder / NAME).write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(Unreadable):
        packed_file.read(folder)
