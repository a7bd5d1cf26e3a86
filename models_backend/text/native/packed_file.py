"""The file that packed weights lie in, beside the model: safetensors, with each tensor on a line of 64 bytes.

Made once; read in a fraction of a second, for it is read as it will lie in memory. The header tells which model file it
was made of, so that a changed model is packed anew.
"""

import json
import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

NAME = "native.packed"
VERSION = "2"
LINE = 64
_TYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}
_NAMES = {np.dtype(type_): name for name, type_ in _TYPES.items()}
_MAX_HEADER = 16 << 20


class Unreadable(Exception):
    """No packed file, or one that does not belong to the model as it is now."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """`blob` is the memory of all tensors (uint8, on a line of 64 bytes); `offsets` say where in it each begins."""

    blob: np.ndarray
    shapes: dict[str, tuple[int, ...]]
    offsets: dict[str, int]
    facts: dict[str, str]
    types: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.offsets

    def tensor(self, name: str) -> np.ndarray:
        type_, shape, offset = _TYPES[self.types[name]], self.shapes[name], self.offsets[name]
        size = int(np.prod(shape)) * np.dtype(type_).itemsize
        return self.blob[offset : offset + size].view(type_).reshape(shape)


def fingerprint(folder: Path) -> str:
    """What the weights and the config of a model are known by: names, sizes and times of their files."""
    files = [*sorted(folder.glob("*.safetensors")), folder / "config.json"]
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def lay_out(tensors: dict[str, np.ndarray]) -> PackedFile:
    """`tensors` in one memory, as `read` would bring them. Raises ValueError for one that does not fill whole lines."""
    offsets, size = {}, 0
    for name, tensor in tensors.items():
        if tensor.nbytes % LINE:
            raise ValueError(f"{name} has {tensor.nbytes} bytes, not whole lines of {LINE}")
        offsets[name] = size
        size += tensor.nbytes
    blob = _memory(size)
    for name, tensor in tensors.items():
        blob[offsets[name] : offsets[name] + tensor.nbytes] = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return PackedFile(blob, shapes, offsets, {}, {name: _NAMES[tensor.dtype] for name, tensor in tensors.items()})


def write(folder: Path, file: PackedFile, facts: dict[str, str]) -> None:
    """Write all of it or nothing, with `facts` and what it was made of. Raises OSError."""
    header: dict[str, object] = {"__metadata__": {**facts, "version": VERSION, "source": fingerprint(folder)}}
    for name, begin in file.offsets.items():
        end = begin + file.tensor(name).nbytes
        header[name] = {"dtype": file.types[name], "shape": list(file.shapes[name]), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % LINE)
    draft = folder / f"{NAME}.{os.getpid()}"
    try:
        with draft.open("wb") as opened:
            opened.write(struct.pack("<Q", len(text)) + text)
            opened.write(file.blob.data)
        draft.replace(folder / NAME)
    finally:
        draft.unlink(missing_ok=True)


def read(folder: Path) -> PackedFile:
    """Raises Unreadable if there is no such file, or it is damaged, or was made of another model."""
    try:
        with (folder / NAME).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _MAX_HEADER):
                raise Unreadable("its header is damaged")
            header = json.loads(file.read(length))
            facts = header.pop("__metadata__")
            if "kl" not in facts or facts.get("version") != VERSION or facts.get("source") != fingerprint(folder):
                raise Unreadable("it was made of another model or by another version")
            ends = [0, *(_end(entry) for entry in header.values())]
            if max(ends) != size - 8 - length:
                raise Unreadable("it is cut short")
            blob = _read_whole(file, max(ends))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise Unreadable(str(error)) from None
    return PackedFile(
        blob,
        {name: tuple(entry["shape"]) for name, entry in header.items()},
        {name: entry["data_offsets"][0] for name, entry in header.items()},
        facts,
        {name: entry["dtype"] for name, entry in header.items()},
    )


def _end(entry: dict[str, Any]) -> int:
    """Where a tensor ends, after looking whether its type and shape fill its place."""
    begin, end = entry["data_offsets"]
    size = math.prod(entry["shape"]) * np.dtype(_TYPES[entry["dtype"]]).itemsize
    if begin < 0 or begin % LINE or end - begin != size or min(entry["shape"], default=0) < 1:
        raise Unreadable("its header does not fit its tensors")
    return int(end)


def _read_whole(file: BinaryIO, size: int) -> np.ndarray:
    blob = _memory(size)
    view, done = memoryview(blob), 0
    while done < size:
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise Unreadable("it is cut short")
        done += got
    return blob


def _memory(size: int) -> np.ndarray:
    """uint8, on a line of 64 bytes, in large pages where the system has them: a step reads all of it."""
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8, size)
