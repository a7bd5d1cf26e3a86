"""A server that speaks each dialect over real HTTP, and breaks on purpose.

It knows one answer, WORDS, a word a token. Asked to go on with an answer that was begun, it goes on where that ends.
Faults are taken one for each request, first come first served; without one the answer comes whole.
"""

import asyncio
import contextlib
import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

WORDS = ["The", " river", " keeps", " a", " café", " and", " 👩🏽‍🚀", " paints", " slowly", "."]
TEXT = "".join(WORDS)
TUNED = "ft-tickets"
MODELS: dict[str, list[dict[str, Any]]] = {
    "openai": [{"id": "big", "object": "model", "owned_by": "somebody"}],
    "vllm": [
        {"id": "meta/base", "owned_by": "vllm", "parent": None, "max_model_len": 4096},
        {"id": TUNED, "owned_by": "vllm", "parent": "meta/base"},
    ],
    "sglang": [
        {"id": "meta/base", "owned_by": "sglang", "max_model_len": 4096},
        {"id": TUNED, "owned_by": "sglang", "parent": "meta/base"},
    ],
    "llamacpp": [{"id": "small.gguf", "owned_by": "llamacpp", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}],
    "ollama": [{"id": "llama3:8b", "owned_by": "library"}],
    "transformers": [{"id": "org/small", "owned_by": "org"}],
}
PAGES: dict[str, dict[str, Any]] = {
    "ollama": {"/api/version": {"version": "0.12.11"}},
    "llamacpp": {"/props": {"default_generation_settings": {"params": {"temperature": 0.8, "top_k": 40}}}},
    "transformers": {"/openapi.json": {"paths": {"/load_model": {}}}},
}


@dataclass
class Seen:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Fault:
    """What goes wrong with one request. `after` counts the words that come before.

    `raw` replaces the stream behind them; `cut` closes the connection in the middle of it; `hang` says nothing more.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    after: int = 10**9
    raw: tuple[bytes, ...] = ()
    cut: bool = False
    hang: bool = False
    model: str | None = None  # answered in place of the one that was asked for


class Upstream:
    """Used as a context manager; lives in a thread. `gone` is set when a client has left in the middle of a stream."""

    def __init__(self, dialect: str = "openai", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.dialect = dialect
        self.tls = tls
        self.port = port
        self.models = [dict(row) for row in MODELS[dialect]]
        self.pages = dict(PAGES.get(dialect, {}))
        self.words = list(WORDS)
        self.seen: list[Seen] = []
        self.faults: deque[Fault] = deque()
        self.gone = threading.Event()
        self.endless = False
        self.pause = 0.001  # seconds between two pieces

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._done.set)
            self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def asked(self) -> list[Seen]:
        """Requests for answers, without those for models and facts."""
        return [seen for seen in self.seen if seen.path.endswith("completions")]

    def _work(self, ready: threading.Event) -> None:
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._done.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._one(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(method, path, headers, json.loads(raw) if raw else {})
        self.seen.append(seen)
        if method == "GET":
            self._page(writer, path)
        elif path.endswith("lora_adapter"):
            self._adapter(writer, path, seen.body)
        elif not seen.body.get("stream"):
            _reply(writer, 200, {}, json.dumps(self.scored(seen)).encode())
        else:
            await self._stream(reader, writer, seen)

    def _page(self, writer: asyncio.StreamWriter, path: str) -> None:
        if path == "/v1/models":
            page: Any = {"object": "list", "data": self.models}
        else:
            page = self.pages.get(path)
        _reply(writer, 200 if page else 404, {}, json.dumps(page or {"error": {"message": "not here"}}).encode())

    def _adapter(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any]) -> None:
        name = body["lora_name"]
        there = any(row["id"] == name for row in self.models)
        if path == "/v1/load_lora_adapter":
            if there:
                message = f"The lora adapter '{name}' has already been loaded."
                _reply(writer, 400, {}, json.dumps({"error": {"message": message}}).encode())
                return
            self.models.append({"id": name, "owned_by": "vllm", "parent": self.models[0]["id"]})
        else:
            self.models = [row for row in self.models if row["id"] != name]
        _reply(writer, 200, {"content-type": "text/plain"}, b"Success")

    def scored(self, seen: Seen) -> dict[str, Any]:
        """vLLM's answer to a request for log-probabilities of the prompt: three tokens, the first without any."""
        table = {"5": {"logprob": -2.0, "rank": 3, "decoded_token": " b"}, "7": {"logprob": -0.5, "decoded_token": "x"}}
        return {"prompt_logprobs": [None, table, {"6": {"logprob": -1.0, "rank": 1}}], "prompt_token_ids": [4, 5, 6]}

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        fault = self.faults.popleft() if self.faults else Fault()
        if fault.status != 200 or fault.body is not None:
            _reply(writer, fault.status, fault.headers, fault.body or b"")
            await writer.drain()
            return
        known = {row["id"] for row in self.models} | {f"meta/base:{TUNED}"}
        if seen.body["model"] not in known:
            _reply(writer, 404, {}, b'{"error": {"message": "The model does not exist.", "code": 404}}')
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n")
        leaving = asyncio.ensure_future(reader.read(1))  # nothing more comes from a client but its end
        for number, piece in enumerate(self._pieces(seen, fault)):
            if number > fault.after:
                break
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(self.pause)
            if leaving.done():
                self.gone.set()
                return
        for piece in fault.raw:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)
        if fault.hang:
            await leaving
            self.gone.set()
        if fault.cut:
            writer.transport.abort()
        leaving.cancel()

    def _pieces(self, seen: Seen, fault: Fault) -> Iterator[bytes]:
        body, chat = seen.body, seen.path.endswith("chat/completions")
        model = fault.model or body["model"]
        words = self.rest(body, chat)
        most = body.get("max_tokens", body.get("max_completion_tokens", 10**6))
        options = body.get("stream_options") or {}
        yield self.chunk(model, chat, None, first=True)
        count = 0
        while True:
            for word in words[: None if self.endless else most]:
                count += 1
                usage = {"prompt_tokens": 7, "completion_tokens": count}
                extra = {"usage": usage} if options.get("continuous_usage_stats") else {}
                yield self.chunk(model, chat, word, body=body, **extra)
            if not self.endless:
                break
        reason = "length" if most <= len(words) else "stop"
        usage = {"prompt_tokens": 7, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": 4}}
        if self.dialect == "transformers":  # the figures come with the end, and nothing behind it
            yield self.chunk(model, chat, None, finish=reason, usage=usage)
            return
        yield self.chunk(model, chat, None, finish=reason)
        if options.get("include_usage"):
            yield sse({"model": model, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def rest(self, body: dict[str, Any], chat: bool) -> list[str]:
        """The words behind what the request says was said already."""
        if chat:
            last = body["messages"][-1]
            said = last["content"] if last["role"] == "assistant" else ""
        else:
            said = body["prompt"].partition("|")[2]
        text, there = "", 0
        while there < len(self.words) and len(text) < len(said):
            text += self.words[there]
            there += 1
        assert text.rstrip() == said.rstrip(), (text, said)
        return self.words[there:]

    def chunk(
        self, model: str, chat: bool, word: str | None, body: dict[str, Any] | None = None, **facts: Any
    ) -> bytes:
        """One event in this dialect."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": facts.get("finish")}
        if chat:
            choice["delta"] = {"role": "assistant", "content": ""} if facts.get("first") else {}
            if word is not None:
                choice["delta"] = {"content": word}
        else:
            choice["text"] = word or ""
        sent = {"id": "x", "model": model, "choices": [choice]}
        if word is not None and body is not None:
            id_ = 100 + (self.words.index(word) if word in self.words else len(self.words))
            if body.get("return_token_ids"):
                choice["token_ids"] = [id_]
            if body.get("logprobs"):
                choice["logprobs"] = self.logprobs(word, id_, body, chat)
        if facts.get("usage"):
            sent["usage"] = facts["usage"]
        return sse(sent)

    def logprobs(self, word: str, id_: int, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        top = [(word, -0.25), (" other", -1.5), (" third", -3.0)]
        if not chat and self.dialect != "llamacpp":
            most = dict(top[: body["logprobs"]])
            return {"tokens": [word], "token_logprobs": [-0.25], "top_logprobs": [most], "text_offset": [0]}
        rows = [{"token": text, "logprob": value, "bytes": list(text.encode())} for text, value in top]
        most = body.get("top_logprobs", body["logprobs"])
        row = {**rows[0], "top_logprobs": rows[:most]}
        if self.dialect == "llamacpp":
            row["id"] = id_
        return {"content": [row]}


def sse(event: Any) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def _reply(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes) -> None:
    sent = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)
