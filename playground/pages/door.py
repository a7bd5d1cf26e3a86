"""What every HTML door does alike: errors in calm words, messages to the page in HX-Trigger, and the posted spec."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from models_backend.protocol.runs import RunSpec
from playground.errors import BadParameter, DiptychError

View = Callable[..., HttpResponse]


def door(view: View) -> View:
    """Answer every DiptychError in words: a line for the page that asked by htmx, else a page of its own."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except DiptychError as error:
            return refuse(request, error)

    return guarded


def refuse(request: HttpRequest, error: DiptychError) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        return HttpResponse(error.message, status=error.status, content_type="text/plain; charset=utf-8")
    return render(request, "pages/errors/page.html", {"error": error}, status=error.status)


def tell(response: HttpResponse, **events: Any) -> HttpResponse:
    """Let the page hear `events` after the swap; underscores in a name become colons (`preset_saved`)."""
    named = {name.replace("_", ":"): detail for name, detail in events.items()}
    response["HX-Trigger-After-Swap"] = json.dumps(named)  # ASCII, as headers must be
    return response


def again(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """The form of a dialog once more, with what was wrong, in its own place and not where its result would go."""
    response = render(request, template, context, status=422)
    response["HX-Retarget"] = "#dialog-body"
    return response


def posted_spec(request: HttpRequest) -> dict[str, Any]:
    """The `spec` field of a form. Raises BadParameter, which says what is wrong with it."""
    try:
        spec = msgspec.json.decode(request.POST.get("spec", ""), type=RunSpec)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadParameter("spec", f"This prompt cannot be saved: {error}") from None
    return as_data(spec)


def posted_number(request: HttpRequest, name: str) -> int | None:
    text = request.POST.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise BadParameter(name, f"{name} must be a whole number.")
    return int(text)


def as_data(spec: RunSpec) -> dict[str, Any]:
    """The spec as plain data, for templates' json_script and for services."""
    data: dict[str, Any] = msgspec.to_builtins(spec)
    return data
