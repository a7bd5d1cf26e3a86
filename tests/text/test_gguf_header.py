import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_backend.text.gguf_header import BadGguf, check


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(facts: bytes, count: int, tensors: bytes = b"", number: int = 1, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, number, count) + facts + tensors + bytes(64)


NAMED = text("general.architecture") + struct.pack("<I", 8) + text("llama")
TENSOR = text("w") + struct.pack("<IQIQ", 1, 4, 0, 0)
SOUND = gguf(NAMED, 1, TENSOR)


def write(folder: Path, content: bytes) -> Path:
    (folder / "x.gguf").write_bytes(content)
    return folder / "x.gguf"


def test_a_sound_header_tells_architecture_and_tensors(tmp_path: Path) -> None:
    header = check(write(tmp_path, SOUND))
    assert (header.version, header.tensors, header.architecture) == (3, 1, "llama")


def test_every_kind_of_value_is_stepped_over(tmp_path: Path) -> None:
    strings = text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc")
    numbers = text("scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12)
    flag = text("flag") + struct.pack("<IB", 7, 1)
    assert check(write(tmp_path, gguf(strings + numbers + flag + NAMED, 4, TENSOR))).architecture == "llama"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "promises"),
        (b"PK\x03\x04" + bytes(100), "begin with GGUF"),
        (gguf(NAMED, 1, TENSOR, version=1), "version is 1"),
        (gguf(NAMED, 2**60, TENSOR), "facts"),
        (gguf(NAMED, 1, TENSOR, number=2**60), "tensors"),
        (gguf(NAMED, 1, TENSOR, number=0), "holds no tensors"),
        (gguf(b"", 0, TENSOR), "names no architecture"),
        (gguf(struct.pack("<Q", 2**63) + b"x", 1), "letters"),
        (gguf(struct.pack("<Q", 5000) + b"x", 1), "promises 5000 bytes"),
        (gguf(text("a") + struct.pack("<IIQ", 9, 0, 2**62), 1), "items"),
        (gguf(text("a") + struct.pack("<I", 99), 1), "unknown type 99"),
        (gguf(NAMED, 1, text("w") + struct.pack("<I", 2**31)), "dimensions"),
        (gguf(NAMED, 1, text("w") + struct.pack("<IQIQ", 1, 4, 0, 2**50)), "after the end"),
    ],
)
def test_a_header_that_promises_too_much_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(BadGguf, match=why):
        check(write(tmp_path, content))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(SOUND) - 65), byte=st.integers(0, 255))
def test_no_damaged_byte_ends_in_anything_but_an_answer_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(SOUND[:at] + bytes([byte]) + SOUND[at + 1 :])
    with suppress(BadGguf):
        check(path)
