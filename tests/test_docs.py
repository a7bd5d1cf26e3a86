"""What the docs say is what there is."""

import re
from pathlib import Path

import msgspec
import pytest
from django.core.management import get_commands
from django.urls import URLPattern, get_resolver
from typer.main import get_command

from models_backend.__main__ import app
from models_backend.config import Settings
from models_backend.protocol.params import Params
from playground import settings
from playground.catalog.parameters import PARAMETERS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DOCS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]


def rows(heading: str) -> dict[str, list[str]]:
    """Cells of the table under `heading`, by the name in its first column."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `([^`]+)` \|(.*)\|$", section, re.M)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def worker_variables() -> set[str]:
    return {
        str(field.validation_alias) if field.validation_alias else f"DIPTYCH_{name.upper()}"
        for name, field in Settings.model_fields.items()
    }


def test_every_setting_is_in_the_readme_and_no_other():
    assert set(rows("Settings")) == {variable.name for variable in settings.VARIABLES} | worker_variables()


@pytest.mark.parametrize("variable", [v for v in settings.VARIABLES if v.default], ids=lambda v: v.name)
def test_the_readme_tells_a_settings_default(variable):
    assert rows("Settings")[variable.name][0] == f"`{variable.default}`"


@pytest.mark.parametrize("name", ["model", "device", "slots", "context", "engine"])
def test_the_readme_tells_the_workers_defaults(name):
    assert rows("Settings")[f"DIPTYCH_{name.upper()}"][0] == f"`{Settings.model_fields[name].default}`"


def test_every_parameter_is_in_the_readme_with_its_range():
    told = {name: cells[0] for name, cells in rows("Parameters").items()}
    assert told == {parameter.name: parameter.range for parameter in PARAMETERS}


def test_every_parameter_that_can_be_sent_has_a_row_and_no_other():
    assert {parameter.name for parameter in PARAMETERS} == {field.name for field in msgspec.structs.fields(Params)}


def test_every_command_of_the_gpu_house_is_in_the_readme():
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"-m models_backend (\w+)", README)) == commands


def test_every_command_of_the_web_house_is_in_the_readme():
    ours = {name for name, app_name in get_commands().items() if app_name == "playground"}
    assert {name for name in ours if f"manage.py {name}" in README} == ours


def test_the_addresses_for_machines_are_in_the_readme():
    addresses = {f"/{each.pattern}" for each in get_resolver().url_patterns if isinstance(each, URLPattern)}
    assert {"/healthz", "/readyz"} <= addresses
    assert all(f"`{path}`" in README for path in ("/healthz", "/readyz", "/live"))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_files_that_the_docs_name_exist(path):
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    paths = re.findall(r"`((?:playground|models_backend|static|tests|templates)/[\w./]+)`", path.read_text())
    named = links + paths
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_every_room_is_on_the_map():
    map_ = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [
        each.name
        for house in ("playground", "models_backend")
        for each in (ROOT / house).iterdir()
        if (each / "__init__.py").exists() and each.name not in ("migrations", "templatetags")
    ]
    assert [room for room in rooms if f"  {room}/" not in map_] == []
