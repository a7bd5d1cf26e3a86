"""HTTP to one server: bounded, verified, without redirects, and with every failure put into words.

The key goes into one header of this client and nowhere else.
"""

import email.utils
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2

from . import chunks
from .errors import UpstreamError, told
from .upstreams import Remote

MAX_ERROR_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 32 * 1024 * 1024  # of an answer that is no stream: a list of models, a scored prompt
BUSY = (429, 503)  # come again; 502 and 504 are said by what stands in between


class Client:
    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        spec = remote.spec
        # No compression: a few bytes must not become gigabytes here.
        headers = {"accept-encoding": "identity", "user-agent": "diptych"}
        if remote.key:
            headers["authorization"] = f"Bearer {remote.key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(None, connect=spec.connect_seconds, write=spec.between_seconds),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=spec.slots),
            follow_redirects=False,
            trust_env=not remote.local,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def get(self, url: str, limit: int = MAX_ANSWER_BYTES) -> dict[str, Any]:
        """The JSON object at `url`. Raises UpstreamError."""
        async with self._open("GET", url, None) as response:
            return chunks.parse(await self._body(response, limit))

    async def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the server answers to `body`; an answer that is no JSON is empty. Raises UpstreamError."""
        async with self._open("POST", url, body) as response:
            raw = await self._body(response, MAX_ANSWER_BYTES)
            return chunks.parse(raw) if raw.strip().startswith(b"{") else {}

    @asynccontextmanager
    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of an event stream as they come. Leaving it before its end breaks the connection off.

        Raises UpstreamError, also while it is read.
        """
        async with self._open("POST", self.remote.url + path, body) as response:
            type_ = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if type_ != "text/event-stream":
                raw = await self._body(response, MAX_ERROR_BYTES)
                if type_ == "application/json":
                    chunks.raise_error(chunks.parse(raw), self.remote.key)
                what = told(type_, "") or "something of no type"
                raise UpstreamError("upstream_garbage", f"it answered with {what}, not with a stream.")
            async with aclosing(_reading(response)) as pieces:
                yield pieces

    @asynccontextmanager
    async def _open(self, method: str, url: str, body: dict[str, Any] | None) -> AsyncIterator[httpx2.Response]:
        request = self._http.build_request(method, url, json=body)
        try:
            response = await self._http.send(request, stream=True)
        except httpx2.ConnectTimeout:
            raise UpstreamError("upstream_unreachable", "it does not answer.", retry=True) from None
        except httpx2.TransportError as error:
            raise UpstreamError("upstream_unreachable", _unreachable(error), retry=True) from None
        except httpx2.HTTPError as error:
            why = f"it does not keep to HTTP: {told(str(error), self.remote.key)}"
            raise UpstreamError("upstream_garbage", why) from None
        try:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise UpstreamError("upstream_garbage", "it answered compressed, which was not asked for.")
            if response.status_code >= 300:
                raise await self._refused(response)
            yield response
        finally:
            await response.aclose()

    async def _body(self, response: httpx2.Response, limit: int) -> bytes:
        raw = bytearray()
        async for piece in _reading(response):
            raw += piece
            if len(raw) > limit:
                raise UpstreamError("upstream_garbage", f"it answered with more than {limit:,} bytes.")
        return bytes(raw)

    async def _refused(self, response: httpx2.Response) -> UpstreamError:
        status = response.status_code
        if status < 400:
            return UpstreamError("upstream_redirects", f"it sends us elsewhere ({status}), and that is not followed.")
        if status in (401, 403):
            return UpstreamError("upstream_refused_key", f"it does not take our key ({status}).")
        message, code = await self._reason(response)
        why = f"it answered {status}: {message}" if message else f"it answered {status}."
        if status in BUSY:
            return UpstreamError("upstream_busy", why, retry=True, after=_retry_after(response))
        if status in (502, 504):
            return UpstreamError("upstream_unreachable", why, retry=True)
        if status == 404:
            return UpstreamError("model_not_found", why)
        if code == "context_length_exceeded":
            return UpstreamError(code, why)
        return UpstreamError("upstream_refused" if status < 500 else "upstream_error", why)

    async def _reason(self, response: httpx2.Response) -> tuple[str, str]:
        """The server's own words and code, as far as it has any."""
        try:
            event = chunks.parse(await self._body(response, MAX_ERROR_BYTES))
        except UpstreamError:
            return "", ""
        error = event.get("error", event)
        facts = error if isinstance(error, dict) else {"message": error}
        code = facts.get("code")
        message = facts.get("message") or facts.get("detail")
        return told(message, self.remote.key), code if isinstance(code, str) else ""


async def _reading(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in response.aiter_raw():
            yield piece
    except httpx2.HTTPError as error:
        raise UpstreamError("upstream_broke", _unreachable(error), retry=True) from None


def _unreachable(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    if isinstance(cause, ConnectionRefusedError):
        return "nobody listens at its address."
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its certificate cannot be verified."
    if isinstance(error, httpx2.ConnectError):
        return "it cannot be reached."
    return "it broke the connection off."


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds that the server asks to wait, which it may say as a date. RFC 9110, 10.2.3."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
