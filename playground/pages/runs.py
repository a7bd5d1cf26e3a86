"""Doors of the history: the runs of a person, newest first, with search."""

from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from playground.errors import BadParameter
from playground.models import Run
from playground.runs import history

from .door import door

PAGE = 30


@require_GET
@door
def index(request: HttpRequest) -> HttpResponse:
    """Runs that match `q`, before run `before` when the list goes on."""
    query = request.GET.get("q", "")[:200]
    before = _moment(request.GET.get("before", ""))
    runs = history.listing(request.user, query, before, PAGE)
    context = {"runs": runs, "query": query, "current_run": request.GET.get("current", "")} | onward(runs)
    template = "pages/history/_list.html" if request.htmx else "pages/history/page.html"
    return render(request, template, context)


def onward(runs: list[Run]) -> dict[str, str]:
    """Where the list goes on, for a page that is full."""
    return {"before": runs[-1].created_at.isoformat()} if len(runs) == PAGE else {}


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        moment = None
    if text and (moment is None or moment.tzinfo is None):
        raise BadParameter("before", "The history goes on from a moment, as its own links give it.")
    return moment
