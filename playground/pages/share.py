"""Doors of the share dialog, the same for presets and runs."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from playground.presets import share as sharing

from .door import door, tell

LEVELS = (
    ("private", "Private", "Only you."),
    ("signed_in", "Signed-in", "Everybody who can sign in here and has the link. They can read and take a copy."),
    ("anyone", "Anyone with the link", "No sign-in needed. They can only read."),
)


@require_http_methods(["GET", "POST"])
@door
def dialog(request: HttpRequest, kind: str, id: str) -> HttpResponse:
    """GET: who may read it now. POST: change that to `level`."""
    if request.method == "POST":
        link = sharing.share(request.user, kind, id, request.POST.get("level", ""))
        if not request.htmx:
            return redirect("share", kind=kind, id=id)
        return tell(_render(request, kind, id, link), share_changed={"kind": kind, "id": id, "level": link.level})
    return _render(request, kind, id, sharing.current(request.user, kind, id))


@require_POST
@door
def revoke(request: HttpRequest, kind: str, id: str) -> HttpResponse:
    sharing.revoke(request.user, kind, id)
    if not request.htmx:
        return redirect("share", kind=kind, id=id)
    return tell(_render(request, kind, id, None), share_changed={"kind": kind, "id": id, "level": "private"})


def _render(request: HttpRequest, kind: str, id: str, link: Any) -> HttpResponse:
    context = {
        "kind": kind,
        "id": id,
        "levels": LEVELS,
        "level": link.level if link else "private",
        "address": request.build_absolute_uri(link.url) if link and link.level != "private" else "",
        "link": link,
    }
    template = "pages/share/_dialog.html" if request.htmx else "pages/share/page.html"
    return render(request, template, context)
