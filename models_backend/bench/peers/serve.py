"""`transformers serve` with continuous batching, over HTTP as its users reach it: one streamed completion a lane."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from models_backend import registry
from models_backend.bench.contestant import Jobs, die_with_parent
from models_backend.bench.peers.bounds import PAGE, PAGES, TOKENS
from models_backend.config import Settings

LOAD_SECONDS = 240
SERVER = "from transformers.cli.transformers import main; main()"


def jobs(options: dict[str, Any]) -> Jobs:
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        raise RuntimeError("transformers serve needs fastapi, uvicorn and openai: pip install 'diptych[bench]'")
    folder = str(registry.find(options["model"], Settings().home).folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable, "-c", SERVER, "serve", folder, "--host", "127.0.0.1", "--port", str(port),
            "--dtype", options["dtype"], "--device", options["device"], "--continuous-batching",
            "--cb-block-size", str(PAGE), "--cb-num-blocks", str(PAGES), "--cb-max-batch-tokens", str(TOKENS),
        ],
        stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=die_with_parent,
    )  # fmt: skip
    _wait(server, port)

    def answer(rows: int, texts: Sequence[str], tokens: int) -> dict[str, Any]:
        streams: list[list[float]] = [[] for _ in range(rows)]
        lanes = [
            threading.Thread(target=_stream, args=(port, folder, text, tokens, times))
            for text, times in zip(texts[:rows], streams, strict=True)
        ]
        began = time.monotonic()
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        return {"began": began, "streams": streams}

    return {"answer": answer}


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError("transformers serve ended while it was starting")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    server.kill()
    raise RuntimeError("transformers serve did not start in time")


def _stream(port: int, model: str, text: str, tokens: int, times: list[float]) -> None:
    """Note when each piece of one streamed completion arrives."""
    body = {"model": model, "prompt": text, "max_tokens": tokens, "temperature": 0, "stream": True}
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        line.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        response = line.getresponse()
        while raw := response.readline(1 << 20):
            if raw.startswith(b"data: {") and json.loads(raw[6:])["choices"][0].get("text"):
                times.append(time.monotonic())
    finally:
        line.close()
