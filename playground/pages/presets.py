"""Doors of presets: the list, and one door for each thing a person can do with a preset."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from playground.errors import BadParameter, Conflict
from playground.models import Preset, PresetVersion
from playground.models.preset import MAX_DESCRIPTION, MAX_NAME, MAX_NOTE
from playground.presets import service

from .door import again, door, posted_number, posted_spec, tell

BOUNDS = {"max_name": MAX_NAME, "max_description": MAX_DESCRIPTION, "max_note": MAX_NOTE}


@require_http_methods(["GET", "POST"])
@door
def index(request: HttpRequest) -> HttpResponse:
    """GET: the presets that match `q`. POST: save a new one."""
    if request.method == "POST":
        return _create(request)
    return _list(request, "pages/presets/_list.html" if request.htmx else "pages/presets/page.html")


@require_GET
@door
def new(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/presets/_create.html", BOUNDS | {"name": request.GET.get("name", "")[:MAX_NAME]})


@require_http_methods(["GET", "POST"])
@door
def versions(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    """GET: all versions. POST: save a new one on top of version `expected`."""
    if request.method == "POST":
        return _save_version(request, preset_id)
    found = service.versions(request.user, preset_id)
    context = {"preset": found[0].preset, "versions": found}
    return render(request, "pages/presets/_versions.html", context)


@require_GET
@door
def save(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    """The form with the note. `base` is the version that the draft began from."""
    newest = service.open_version(request.user, preset_id)
    base = request.GET.get("base", "")
    older = int(base) if base.isascii() and base.isdecimal() and len(base) < 9 and int(base) < newest.number else None
    return render(request, "pages/presets/_save.html", BOUNDS | {"newest": newest, "older": older})


@require_http_methods(["GET", "POST"])
@door
def rename(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    preset = service.open_version(request.user, preset_id).preset
    if request.method == "GET":
        return render(request, "pages/presets/_rename.html", BOUNDS | {"preset": preset})
    name, description = request.POST.get("name", ""), request.POST.get("description", "")
    try:
        renamed = service.rename(request.user, preset_id, name, description)
    except BadParameter as error:
        form = BOUNDS | {"preset": preset, "error": error, "name": name, "description": description}
        return again(request, "pages/presets/_rename.html", form)
    told = {"id": str(renamed.pk), "name": renamed.name, "description": renamed.description}
    return _after(request, preset_id, preset_renamed=told, dialog_close=True)


@require_POST
@door
def duplicate(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    copy = service.duplicate(request.user, preset_id, posted_number(request, "number"))
    toast = {"text": f"Duplicated as “{copy.name}”.", "open": f"/presets/{copy.pk}"}
    return _after(request, copy.pk, toast=toast)


@require_POST
@door
def delete(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    preset = service.delete(request.user, preset_id)
    toast = {"text": f"Deleted “{preset.name}”.", "undo": f"/presets/{preset_id}/restore"}
    return _after(request, None, toast=toast, preset_deleted={"id": str(preset_id)})


@require_POST
@door
def restore(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    service.restore(request.user, preset_id)
    return _after(request, preset_id, toast={"text": "Restored."}, preset_restored={"id": str(preset_id)})


def _create(request: HttpRequest) -> HttpResponse:
    name, description = request.POST.get("name", ""), request.POST.get("description", "")
    note = request.POST.get("note", "")
    try:
        preset = service.create(request.user, name, description, posted_spec(request), note)
    except BadParameter as error:
        form = BOUNDS | {"error": error, "name": name, "description": description, "note": note}
        return again(request, "pages/presets/_create.html", form)
    return _saved(request, service.open_version(request.user, preset.pk))


def _save_version(request: HttpRequest, preset_id: UUID) -> HttpResponse:
    note = request.POST.get("note", "")
    try:
        version = service.save_version(
            request.user, preset_id, posted_spec(request), note, posted_number(request, "expected")
        )
    except (BadParameter, Conflict) as error:
        newest = service.open_version(request.user, preset_id)
        form = BOUNDS | {"newest": newest, "note": note, "error": error}
        return again(request, "pages/presets/_save.html", form)
    return _saved(request, version)


def _saved(request: HttpRequest, version: PresetVersion) -> HttpResponse:
    preset = version.preset
    told = {
        "id": str(preset.pk), "number": version.number, "newest": version.number, "name": preset.name,
        "description": preset.description, "note": version.note, "url": f"/presets/{preset.pk}",
    }  # fmt: skip
    toast = {"text": f"Saved “{preset.name}” as version {version.number}."}
    return _after(request, preset.pk, preset_saved=told, dialog_close=True, toast=toast)


def _after(request: HttpRequest, preset_id: UUID | None, **events: object) -> HttpResponse:
    """The new list and what happened; without htmx, the page that a person would want next."""
    if not request.htmx:
        return redirect("preset", preset_id=preset_id) if preset_id else redirect("presets")
    return tell(_list(request, "pages/presets/_list.html"), **events)


def _list(request: HttpRequest, template: str) -> HttpResponse:
    query = request.GET.get("q", "")[:200]
    presets: list[Preset] = service.listing(request.user, query)
    current = request.GET.get("current", "")
    return render(request, template, {"presets": presets, "query": query, "current_id": current})
