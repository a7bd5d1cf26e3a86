"""The compare page in its six forms: a new draft, a new X-ray, a preset, an older version of it, a run, and what a link
shares."""

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from models_backend.protocol.params import MAX_BIAS, MAX_CHOICES, MAX_CONSTRAINT_CHARS, MAX_STOP_CHARS
from models_backend.protocol.runs import MAX_LANES, MAX_MESSAGES, MAX_PREFIX, MAX_PROMPT_CHARS, STRENGTHS
from playground.catalog.parameters import PARAMETERS
from playground.catalog.welcome import SPEC, XRAY
from playground.models import PresetVersion
from playground.models.preset import MAX_NAME
from playground.presets import service
from playground.presets import share as sharing
from playground.runs import history

from .door import as_data, door
from .runs import PAGE, onward

LIMITS = {
    "lanes": MAX_LANES,
    "messages": MAX_MESSAGES,
    "prompt_chars": MAX_PROMPT_CHARS,
    "stop_chars": MAX_STOP_CHARS,
    "bias": MAX_BIAS,
    "choices": MAX_CHOICES,
    "constraint_chars": MAX_CONSTRAINT_CHARS,
    "prefix": MAX_PREFIX,
}


@require_GET
@never_cache
@door
def new(request: HttpRequest) -> HttpResponse:
    return _page(request, place="new", spec=SPEC)


@require_GET
@never_cache
@door
def xray(request: HttpRequest) -> HttpResponse:
    """The same page, on which models only read: how likely they find each token of a text."""
    return _page(request, place="xray", spec=XRAY)


@require_GET
@never_cache
@door
def preset(request: HttpRequest, preset_id: UUID, number: int | None = None) -> HttpResponse:
    version = service.open_version(request.user, preset_id, number)
    newest = version if number is None else service.open_version(request.user, preset_id)
    place = f"preset:{preset_id}" + (f":{number}" if number else "")
    return _page(
        request,
        place=place,
        spec=as_data(version.spec),
        preset=_preset(version) | {"newest": newest.number},
        current_preset=version.preset,
    )


@require_GET
@never_cache
@door
def run(request: HttpRequest, run_id: str) -> HttpResponse:
    opened = history.open(request.user, run_id)
    return _page(
        request,
        place=f"run:{run_id}",
        spec=as_data(opened.spec),
        run={"id": opened.pk, "title": opened.title},
        current_run=opened.pk,
    )


@require_GET
@never_cache
@login_not_required
@door
def shared(request: HttpRequest, token: str) -> HttpResponse:
    """Read-only for everybody; whoever is signed in may take a copy."""
    found = sharing.open(token, _person(request))
    start: dict[str, Any] = {"share": token, "read_only": True, "place": f"share:{token}"}
    if found.preset_version is not None:
        version = found.preset_version
        start |= {"spec": as_data(version.spec), "preset": _preset(version) | {"newest": version.number}}
        title, description = version.preset.name, version.preset.description
    else:
        start |= {"spec": as_data(found.run.spec), "run": {"id": found.run.pk, "title": found.run.title}}
        title, description = found.run.title, ""
    context = {"shared": found, "token": token, "shared_title": title, "shared_description": description}
    return render(request, "pages/compare/page.html", _context(start) | context)


@require_POST
@door
def copy_shared(request: HttpRequest, token: str) -> HttpResponse:
    """Save what a link shares as a preset of one's own."""
    found = sharing.open(token, request.user)
    if found.preset_version is not None:
        copy = service.duplicate_version(request.user, found.preset_version)
    else:
        name = " ".join(found.run.title.split())[:MAX_NAME] or "Shared run"
        copy = service.create(request.user, name, "", as_data(found.run.spec), "From a shared run")
    return redirect("preset", preset_id=copy.pk)


def _page(request: HttpRequest, *, current_preset: Any = None, current_run: str = "", **start: Any) -> HttpResponse:
    runs = history.listing(request.user, limit=PAGE)
    context = (
        _context({"read_only": False, "share": None, **start})
        | {
            "presets": service.listing(request.user),
            "current_id": current_preset.pk.hex if current_preset else "",
            "runs": runs,
            "current_run": current_run,
        }
        | onward(runs)
    )
    return render(request, "pages/compare/page.html", context)


def _context(start: dict[str, Any]) -> dict[str, Any]:
    return {
        "parameters": PARAMETERS,
        "start": {"preset": None, "run": None}
        | start
        | {"catalog": catalog(), "limits": LIMITS, "welcome": SPEC, "xray": XRAY},
        "strengths": STRENGTHS,
        "reads": is_xray(start["spec"]),
        "read_only": start["read_only"],
    }


def catalog() -> list[dict[str, Any]]:
    """The table of parameters as the page's resolver reads it."""
    return [
        {
            "name": parameter.name,
            "label": parameter.label,
            "kind": parameter.kind,
            "start": parameter.start,
            "step": parameter.step,
            "neutral": parameter.neutral,
            "on": parameter.on,
            "more": parameter.more,
            "bounds": parameter.bounds,
            "options": parameter.options,
            "most": parameter.most,
        }
        for parameter in PARAMETERS
    ]


def is_xray(spec: dict[str, Any]) -> bool:
    """Whether the models of this run only read."""
    params = spec.get("params", {})
    return params.get("max_tokens") == 0 and params.get("prompt_logprobs") is not None


def _preset(version: PresetVersion) -> dict[str, Any]:
    return {
        "id": str(version.preset.pk),
        "number": version.number,
        "name": version.preset.name,
        "description": version.preset.description,
        "note": version.note,
    }


def _person(request: HttpRequest) -> Any:
    return request.user if request.user.is_authenticated else None
