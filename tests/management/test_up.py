"""`manage.py up`, as somebody meets it who does something wrong, and as the system sees it end."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Stack(tmp_path_factory.mktemp("up")) as running:
        yield running


def up(stack: Stack, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        stack.manage("up"), cwd=stack.root, env={**stack.env, **env}, capture_output=True, text=True, timeout=60
    )


def test_the_address_with_the_token_is_printed_once(stack):
    stack.wait_said("ready: the default model answers")
    lines = [line.strip() for line in stack.lines if "Diptych is at" in line]
    assert lines == [f"Diptych is at {stack.signed_in}"]


def test_everything_is_ready_and_says_so(stack):
    status, body = stack.get("/readyz")
    facts = json.loads(body)
    assert (status, facts["ready"]) == (200, True)
    assert {name for name, check in facts["checks"].items() if check["ok"]} == {
        "web",
        "bus",
        "database",
        "worker",
        "model",
    }


def test_a_second_one_in_the_same_home_is_refused_in_a_sentence(stack):
    result = up(stack)
    assert result.returncode == 1
    assert "already running" in result.stderr and "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_refused_in_a_sentence(stack, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = up(stack, DIPTYCH_HOME=str(tmp_path), DIPTYCH_PORT=str(port))
    assert result.returncode == 1
    assert f"port {port}" in result.stderr and "DIPTYCH_PORT" in result.stderr and "Traceback" not in result.stderr


def test_a_home_with_a_path_too_long_for_a_socket_works(tmp_path):
    deep = tmp_path / ("a-long-name-" * 8) / "home"
    deep.mkdir(parents=True)
    with Stack(deep) as running:
        assert running.get("/readyz")[0] == 200


def test_a_missing_worker_makes_it_unready_and_its_return_ready(stack):
    stack.kill("worker", signal.SIGSTOP)
    try:
        end = time.monotonic() + 30
        while stack.get("/readyz")[0] != 503 and time.monotonic() < end:
            time.sleep(0.2)
        status, body = stack.get("/readyz")
        assert status == 503 and json.loads(body)["checks"]["worker"]["ok"] is False
        assert stack.get("/healthz")[0] == 200
    finally:
        stack.kill("worker", signal.SIGCONT)
    stack.wait_ready(30)


def test_ctrl_c_leaves_no_process_behind(tmp_path):
    with Stack(tmp_path) as running:
        pids = [pid for name in ("bus", "web", "recorder", "worker") for pid in running.pids(name)]
        assert len(pids) == 4
    assert [pid for pid in pids if _alive(pid)] == []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
