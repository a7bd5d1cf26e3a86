"""The runs of a person, newest first, and search in what was asked and answered."""

import datetime

from django.db.models import Exists, OuterRef, Q

from playground.access import lookup
from playground.models import Lane, Run, User

MAX_QUERY = 200
MAX_PAGE = 100


def listing(person: User, query: str = "", before: datetime.datetime | None = None, limit: int = 30) -> list[Run]:
    """Runs older than `before` (the `created_at` of the last one shown), with their lanes.

    All words of `query` must be found, each in the prompt, the title, an answer or the name of a model, in any case.
    """
    runs = Run.objects.visible_to(person).prefetch_related("lanes")
    for word in query[:MAX_QUERY].replace("\x00", " ").casefold().split():
        answers = Lane.objects.filter(run=OuterRef("pk"), search__contains=word)
        runs = runs.filter(Q(search__contains=word) | Exists(answers))
    if before is not None:
        runs = runs.filter(created_at__lt=before)
    return list(runs[: max(1, min(limit, MAX_PAGE))])


def open(person: User, run_id: str) -> Run:
    """The run with its lanes. Raises NotFound."""
    return lookup.run_for(person, run_id)
