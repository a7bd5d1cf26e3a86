"""Which servers answer: one from DIPTYCH_REMOTE_URL, or several from DIPTYCH_REMOTES. Every wrong field is named."""

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from models_backend.config import Settings
from models_backend.engine import EngineError

MAX_CONFIG_BYTES = 1024 * 1024
MAX_UPSTREAMS = 32

S = TypeVar("S", bound=Struct)
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Id = Annotated[str, Meta(min_length=1, max_length=200)]


class Upstream(Struct, frozen=True, forbid_unknown_fields=True):
    """One server, as the list of servers says it.

    `key` is the name of an environment variable, never a key. `models` empty: all that the server tells. `context` 0:
    what the server says. `adapters` allows vLLM to be given this installation's adapters while it runs: its own id of
    a base, and the id that the base has here; `adapters_folder` is where the server sees the folder of adapters.
    """

    url: Annotated[str, Meta(max_length=2000)]
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")] = "remote"
    kind: Literal["auto", "openai", "vllm", "sglang", "llamacpp", "ollama", "transformers"] = "auto"
    key: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)] | None = None
    models: Annotated[tuple[Id, ...], Meta(max_length=500)] = ()
    slots: Annotated[int, Meta(ge=1, le=256)] = 8
    context: Annotated[int, Meta(ge=0, le=16_777_216)] = 0
    connect_seconds: Seconds = 5.0
    first_seconds: Seconds = 300.0  # to the first token: the server may load its model, or read a long prompt
    between_seconds: Seconds = 60.0  # from one token to the next
    retries: Annotated[int, Meta(ge=0, le=10)] = 3
    adapters: Annotated[dict[Id, Id], Meta(max_length=64)] = {}
    adapters_folder: Annotated[str, Meta(max_length=1000)] = ""


@dataclass(frozen=True, slots=True)
class Remote:
    """A server with its address put right and its key. The key is in no log, no event and no repr."""

    spec: Upstream
    url: str  # ends with the version, without a slash: http://host:8000/v1
    key: str = field(default="", repr=False)

    @property
    def root(self) -> str:
        """The address without the version, where a server's own pages are."""
        return self.url.removesuffix("/v1")

    @property
    def local(self) -> bool:
        """On this machine, so that no proxy stands between."""
        host = urlsplit(self.url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    remote: Annotated[tuple[Upstream, ...], Meta(max_length=MAX_UPSTREAMS)]


def read_remotes(settings: Settings, environment: dict[str, str] | None = None) -> list[Remote]:
    """All servers that the settings name. Raises EngineError `bad_remotes`, which says what is wrong and where."""
    env = dict(os.environ) if environment is None else environment
    found = []
    if settings.remote_url.strip():
        spec = _convert({"url": settings.remote_url.strip(), "slots": settings.slots}, Upstream, "DIPTYCH_REMOTE_URL")
        found.append(Remote(spec, address(spec.url), _header(settings.remote_key.get_secret_value(), "the key")))
    for spec in _listed(settings.remotes.strip()):
        key = ""
        if spec.key is not None:
            key = env.get(spec.key, "").strip()
            if not key:
                raise _bad(f"{spec.name} takes its key from {spec.key}, which is not set.")
        found.append(Remote(spec, address(spec.url), _header(key, spec.key or "")))
    names = [remote.spec.name for remote in found]
    for name in names:
        if names.count(name) > 1:
            raise _bad(f"two servers are called {name}. Give each a name of its own.")
    if settings.engine == "remote" and not found:
        raise _bad("DIPTYCH_ENGINE=remote needs a server: set DIPTYCH_REMOTE_URL, or DIPTYCH_REMOTES for several.")
    return found


def address(url: str) -> str:
    """Put an address right: `http://host:11434` and `http://host:11434/v1/` are the same. Raises EngineError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad(f"{url!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad(f"{url!r} is no address of a server: write http://HOST:PORT/v1 or https://HOST/v1.")
    if parts.username is not None or parts.password is not None:
        raise _bad("an address must not hold a user name or a password. Put the key into a variable.")
    if parts.query or parts.fragment:
        raise _bad(f"{url!r} must end with its path: nothing behind ? or # is sent.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}"


def _listed(text: str) -> tuple[Upstream, ...]:
    if not text:
        return ()
    try:
        if text[0] in "[{":
            value: Any = msgspec.json.decode(text)
            value = {"remote": value} if isinstance(value, list) else value
        else:
            path = Path(text)
            if path.stat().st_size > MAX_CONFIG_BYTES:
                raise _bad(f"{path} is longer than {MAX_CONFIG_BYTES:,} bytes.")
            value = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(f"{text} cannot be read: {error.strerror}.") from None
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad(f"DIPTYCH_REMOTES is neither a TOML file nor JSON: {error}") from None
    return _convert(value, _File, "DIPTYCH_REMOTES").remote


def _convert(value: Any, type_: type[S], what: str) -> S:
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise _bad(f"{what}: {error}") from None


def _header(key: str, where: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise _bad(f"{where} holds characters that no key has.")
    return key


def _bad(why: str) -> EngineError:
    return EngineError("bad_remotes", why[0].upper() + why[1:])
