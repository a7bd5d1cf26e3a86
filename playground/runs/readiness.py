"""Whether the whole house can answer, and if not, what is missing. Asked by `/readyz` and by the supervisor."""

from dataclasses import dataclass

from django.db import connection

from playground.bus import workers
from playground.errors import BusDown, DatabaseBusy

from .database import in_database


@dataclass(frozen=True)
class Check:
    ok: bool
    detail: str


async def checks() -> dict[str, Check]:
    """The state of each part: web, bus, database, worker, model. Never raises for a part that is away."""
    found = {"web": Check(True, "answers")}
    found["bus"], found["worker"], found["model"] = await _bus_and_workers()
    try:
        await in_database(_tables)
        found["database"] = Check(True, "answers")
    except DatabaseBusy:
        found["database"] = Check(False, "does not answer, or its tables have not been made (manage.py migrate)")
    return found


async def _bus_and_workers() -> tuple[Check, Check, Check]:
    try:
        await workers.ping()
        alive = await workers.workers()
        models = await workers.models()
    except BusDown:
        unknown = Check(False, "unknown while the bus does not answer")
        return Check(False, "does not answer at REDIS_URL"), unknown, unknown
    bus = Check(True, "answers")
    if not alive:
        return bus, Check(False, "none has given a sign of life in the last seconds"), Check(False, "no worker")
    names = f"{len(alive)} alive"
    ready = [worker for worker in alive if worker.ready]
    if not ready:
        notes = "; ".join(worker.note for worker in alive if worker.note)
        return bus, Check(True, names), Check(False, notes or "the default model is being loaded")
    served = {model for worker in ready for model in worker.models}
    count = sum(model.id in served for model in models)
    return bus, Check(True, names), Check(True, f"{count} models are served")


def _tables() -> None:
    from playground.models import User

    with connection.cursor():
        User.objects.filter(is_owner=True).exists()
