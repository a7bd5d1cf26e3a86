"""The real server on a port: what must hold below Django, where tests with a test client do not reach."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
LIMIT = 3 * 1024 * 1024


@pytest.fixture(scope="module")
def port(tmp_path_factory, valkey):
    """Port of a Daphne with an empty database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    home = str(tmp_path_factory.mktemp("home"))
    env = {**os.environ, "DIPTYCH_HOME": home, "DIPTYCH_PORT": str(number), "REDIS_URL": f"unix://{valkey}"}
    env.pop("DATABASE_URL", None)
    for command in ("migrate", "collectstatic"):
        manage = [sys.executable, "manage.py", command, "--verbosity", "0", "--no-input"]
        subprocess.run(manage, cwd=ROOT, env=env, check=True, capture_output=True)
    command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(number), "-v", "0"]
    server = subprocess.Popen([*command, "playground.asgi:application"], cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert server.poll() is None
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", number)).close()
                break
            time.sleep(0.05)
        yield number
    finally:
        server.kill()
        server.wait()


def post(port, body, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/nowhere", body=body, headers=headers, encode_chunked=not isinstance(body, bytes))
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_body_that_is_too_long_is_refused_before_any_page_sees_it(port):
    status, text = post(port, b"x" * (LIMIT + 1))
    assert (status, text) == (413, b"This request is too large; at most 3072 KiB are read.\n")


def test_a_body_without_a_length_is_counted_as_it_arrives(port):
    pieces = (b"x" * 65_536 for _ in range(LIMIT // 65_536 + 2))
    assert post(port, pieces, **{"Transfer-Encoding": "chunked"})[0] == 413


def test_a_body_within_the_limit_reaches_the_pages(port):
    assert post(port, b"x" * 1000)[0] in (302, 403, 404)


def test_a_host_that_is_not_ours_gets_no_page(port):
    assert post(port, b"", Host="evil.example")[0] == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
def test_a_foreign_page_gets_no_socket(port, origin):
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{port}/live", origin=origin, proxy=None)
    assert caught.value.response.status_code == 403


def test_without_a_session_the_browser_learns_why_by_the_close_code(port):
    with connect(f"ws://127.0.0.1:{port}/live", origin=f"http://127.0.0.1:{port}", proxy=None) as opened:
        with pytest.raises(ConnectionClosed) as caught:
            opened.recv(timeout=10)
        assert caught.value.rcvd.code == 4401


def test_a_message_of_more_than_a_mebibyte_is_not_read(port):
    with connect(f"ws://127.0.0.1:{port}/live", origin=f"http://127.0.0.1:{port}", proxy=None) as opened:
        with pytest.raises(ConnectionClosed) as caught:
            opened.send("x" * (1024 * 1024 + 1))
            opened.recv(timeout=10)
            opened.recv(timeout=10)
        assert caught.value.code in (1009, 4401, 1006)
