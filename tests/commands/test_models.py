"""The commands as a person types them: what is printed, where, and with which exit code."""

import os
import subprocess
import sys
from pathlib import Path

from tests.registry.folders import write_model

DEFAULT = "smollm2-135m-instruct"


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Without a network: pip looks into an empty folder only."""
    index = home.parent / "empty-index"
    index.mkdir(exist_ok=True)
    env = os.environ | {
        "DIPTYCH_HOME": str(home), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": "/dev/null",
    }  # fmt: skip
    return subprocess.run([sys.executable, "-m", "models_backend", *words], capture_output=True, text=True, env=env)


def test_a_model_is_pulled_listed_and_removed(tmp_path: Path) -> None:
    home, source = tmp_path / "home", write_model(tmp_path / "source")
    pulled = run(home, "pull", str(source), "--as", "mine")
    assert pulled.returncode == 0 and "mine is ready in" in pulled.stdout
    again = run(home, "pull", str(source), "--as", "mine")
    assert again.returncode == 0 and "mine is already here" in again.stdout
    listed = run(home, "list").stdout
    assert DEFAULT in listed and "mine" in listed and "no: pull it" in listed
    assert run(home, "rm", "mine").returncode == 0
    assert not any((home / "models").glob("*/"))


def test_what_cannot_be_pulled_is_told_in_one_line_on_stderr_with_exit_code_1(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    for words, why in {
        ("pull", "nope"): "not known by name",
        ("pull", "../../etc/passwd"): "not a model id",
        ("pull", str(source), "--as", "mine"): "can run code",
        ("pull", str(tmp_path / "gone"), "--as", "mine"): "nothing at",
        ("rm", DEFAULT): "not on this disk",
        ("train", "nope"): "No recipe is called",
        ("train", "tickets"): f"python -m models_backend pull {DEFAULT}",
    }.items():
        ran = run(tmp_path / "home", *words)
        assert ran.returncode == 1 and why in ran.stderr, (words, ran.stderr)
        assert "Traceback" not in ran.stderr and len(ran.stderr.strip().splitlines()) == 1


def test_without_a_network_the_default_model_says_what_to_do_and_leaves_nothing(tmp_path: Path) -> None:
    ran = run(tmp_path / "home", "pull", DEFAULT)
    assert ran.returncode == 1 and "Check the network" in ran.stderr and "Traceback" not in ran.stderr
    assert not any((tmp_path / "home" / "models").glob("[!.]*"))
    assert not any((tmp_path / "home" / "models").glob(".partial*"))
