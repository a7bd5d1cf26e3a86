"""What our Daphne does that plain Daphne does not."""

import asyncio
import http.client
import signal
import socket

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from playground import settings
from tests.live_client import session_cookie
from tests.stack import Stack

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Stack(tmp_path_factory.mktemp("web")) as running:
        yield running


def test_a_body_whose_header_says_it_is_too_long_is_refused_before_it_is_sent(stack):
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    connection.putrequest("POST", "/nowhere")
    connection.putheader("Content-Length", str(10 * 1024**3))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, b"too large" in answer.read()) == (413, True)


def test_a_body_without_a_length_is_cut_off_at_the_limit(stack):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as raw:
        raw.sendall(b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(1600):  # 100 MiB, if anybody read them
                raw.sendall(chunk)
                sent += 0x10000
        except OSError:
            pass
    assert settings.BODY_LIMIT <= sent < 20 * settings.BODY_LIMIT
    assert stack.get("/healthz")[0] == 200


def test_a_body_within_the_limit_reaches_the_page(stack):
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    connection.request("POST", "/sign-in", body=b"x" * 1000)
    assert connection.getresponse().status == 403, "Django's own word: no CSRF token"


def test_sockets_are_told_that_the_server_restarts(stack):
    async def code() -> int:
        headers = {"Cookie": session_cookie(stack.signed_in)}
        address = stack.url.replace("http", "ws", 1) + "/live"
        async with connect(address, origin=stack.url, additional_headers=headers) as page:
            await page.recv()
            stack.kill("web", signal.SIGTERM)
            try:
                async with asyncio.timeout(20):
                    while True:
                        await page.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006

    assert asyncio.run(code()) == 1012
    stack.wait_ready(30)
