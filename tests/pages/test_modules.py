"""The import map, and the table of shortcuts, against the files and code they speak of."""

import json
import re
from pathlib import Path

from django.test import Client

ROOT = Path(__file__).resolve().parents[2]


def test_the_import_map_names_every_module_and_nothing_else(alices: Client) -> None:
    html = alices.get("/").content.decode()
    found = re.search(r'<script type="importmap"[^>]*>(.*?)</script>', html)
    assert found
    files = {f"/static/{path.relative_to(ROOT / 'static')}" for path in (ROOT / "static/js").rglob("*.js")}
    assert set(json.loads(found[1])["imports"]) == files
    assert html.index('type="importmap"') < html.index('type="module"')


def test_every_import_of_a_module_is_there() -> None:
    for path in (ROOT / "static/js").rglob("*.js"):
        for target in re.findall(r'^(?:import|export) .*?"(\..*?)";$|^import "(\..*?)";$', path.read_text(), re.M):
            assert (path.parent / (target[0] or target[1])).is_file(), f"{path}: {target}"


def test_every_icon_that_is_used_is_in_the_sprite() -> None:
    sprite = set(re.findall(r'id="i-(\w+)"', (ROOT / "templates/_partials/icons.svg").read_text()))
    used = set()
    for path in (ROOT / "templates").rglob("*.html"):
        used |= set(re.findall(r'{% icon "(\w+)" %}', path.read_text()))
    for path in (ROOT / "static/js").rglob("*.js"):
        used |= set(re.findall(r'icon\("(\w+)"\)', path.read_text()))
    assert used <= sprite


def test_no_template_styles_or_scripts_inline() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        html = path.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", html), path
