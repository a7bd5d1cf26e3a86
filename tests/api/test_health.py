"""`/healthz` and `/readyz`: what is missing is said, to whoever asks."""

import time

import msgspec
import pytest

from models_backend.protocol import log
from models_backend.protocol.workers import Heartbeat
from playground import bus as room


def beat(bus, ready, note=""):
    now = time.time()
    told = Heartbeat("w", "h", 1, "cpu", "fake", ("fake-base",), ready, 0, 0, 4, now, now, note)
    bus.zadd(log.WORKERS, {"w": now})
    bus.set(log.worker_key("w"), msgspec.json.encode(told))


async def ask(async_client):
    response = await async_client.get("/readyz")
    body = response.json()
    assert body["ready"] is (response.status_code == 200)
    return body["ready"], {name for name, check in body["checks"].items() if not check["ok"]}, body["checks"]


async def test_a_process_that_answers_is_healthy(async_client):
    response = await async_client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"ok": True})


async def test_ready_only_when_everything_is_there(models, bus, transactional_db, async_client):
    ready, missing, checks = await ask(async_client)
    assert (ready, missing) == (False, {"worker", "model"})
    assert set(checks) == {"web", "bus", "database", "worker", "model"}
    beat(bus, False, "loading fake-base, 3 s")
    ready, missing, checks = await ask(async_client)
    assert (ready, missing, checks["model"]["detail"]) == (False, {"model"}, "loading fake-base, 3 s")
    beat(bus, True)
    assert (await ask(async_client))[:2] == (True, set())


async def test_a_bus_that_is_away_is_said(transactional_db, settings, tmp_path, async_client):
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    await room.close()
    _, missing, checks = await ask(async_client)
    assert missing == {"bus", "worker", "model"}
    assert "REDIS_URL" in checks["bus"]["detail"] and str(tmp_path) not in str(checks)
    await room.close()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_only_read(async_client, path):
    assert (await async_client.post(path)).status_code == 405
