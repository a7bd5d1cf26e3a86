"""Reads the header of a GGUF file and checks every length in it against the file, before a real parser allocates.

Paper: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Knows nothing about tensors' contents.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_TENSORS, MAX_FACTS, MAX_DIMENSIONS = 100_000, 10_000, 4
MAX_TEXT, MAX_ITEMS = 16 * 1024 * 1024, 4_000_000
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of each scalar type
STRING, ARRAY = 8, 9


class BadGguf(ValueError):
    """Not a GGUF file, or one whose header promises more than the file holds."""


@dataclass(frozen=True, slots=True)
class Header:
    version: int
    tensors: int
    architecture: str


def check(path: Path) -> Header:
    """Walk through the whole header. Raises BadGguf with what is wrong and where (byte offset)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size)
        if reader.take(4) != b"GGUF":
            raise BadGguf("it does not begin with GGUF.")
        version = reader.number("I")
        if version not in (2, 3):
            raise BadGguf(f"its version is {version}, and only 2 and 3 are read.")
        tensors = reader.count(MAX_TENSORS, "tensors")
        facts = reader.count(MAX_FACTS, "facts")
        architecture = ""
        for _ in range(facts):
            key = reader.text()
            value = reader.value(reader.number("I"))
            if key == "general.architecture":
                architecture = value or ""
        for _ in range(tensors):
            name = reader.text()
            dimensions = reader.number("I")
            if dimensions > MAX_DIMENSIONS:
                raise BadGguf(f"tensor {name[:60]!a} has {dimensions} dimensions.")
            reader.take(8 * dimensions + 4)
            if reader.number("Q") > size:
                raise BadGguf(f"tensor {name[:60]!a} begins after the end of the file.")
        if not tensors or not architecture:
            raise BadGguf("it names no architecture or holds no tensors.")
        return Header(version, tensors, architecture)


class _Reader:
    """Reads little-endian values and refuses to go past the end of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def take(self, length: int) -> bytes:
        at = self.file.tell()
        if length > self.size - at:
            raise BadGguf(f"at byte {at} it promises {length} bytes, but only {self.size - at} follow.")
        return self.file.read(length)

    def skip(self, length: int) -> None:
        at = self.file.tell()
        if length > self.size - at:
            raise BadGguf(f"at byte {at} it promises {length} bytes, but only {self.size - at} follow.")
        self.file.seek(length, 1)

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(kind)))[0])

    def count(self, most: int, what: str) -> int:
        number = self.number("Q")
        if number > most:
            raise BadGguf(f"it promises {number} {what}, more than {most}.")
        return number

    def text(self) -> str:
        return self.take(self.count(MAX_TEXT, "letters")).decode("utf-8", "replace")

    def value(self, kind: int) -> str | None:
        """Step over one value; texts are returned, the rest is not of interest here."""
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            inner, items = self.number("I"), self.count(MAX_ITEMS, "items")
            if inner == STRING:
                for _ in range(items):
                    self.skip(self.count(MAX_TEXT, "letters"))
                return None
            kind, times = inner, items
        else:
            times = 1
        if kind not in SIZES:
            raise BadGguf(f"it holds a value of the unknown type {kind}.")
        self.skip(SIZES[kind] * times)
        return None
