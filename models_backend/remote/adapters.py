"""Adapters of this installation, given to vLLM while it runs, where its settings allow that.

vLLM must be started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and must see the folders.
https://docs.vllm.ai/en/latest/features/lora.html
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from models_backend.registry import Entry

from .client import Client
from .errors import UpstreamError

RETRY_SECONDS = 300.0  # an adapter that was refused is offered again after this

log = logging.getLogger("diptych.remote")


class Adapters:
    """Keeps what vLLM has loaded in step with what is installed. It takes away only what it has brought itself.

    `installed` reads the registry, in a thread of its own.
    """

    def __init__(self, client: Client, installed: Callable[[], list[Entry]], steady: Callable[[], float]) -> None:
        self._client = client
        self._spec = client.remote.spec
        self._installed = installed
        self._steady = steady
        self._brought: set[str] = set()
        self._refused: dict[str, float] = {}  # until when it is not offered again

    async def settle(self, listed: Iterable[str]) -> bool:
        """Load what is missing among the models that are `listed`, unload what is gone; True if anything changed."""
        there = set(listed)
        bases = {ours for theirs, ours in self._spec.adapters.items() if theirs in there}
        if not bases and not self._brought:
            return False
        entries = await asyncio.to_thread(self._installed)
        wanted = {entry.id: entry.adapter for entry in entries if entry.base in bases and entry.adapter is not None}
        changed = False
        for name, folder in wanted.items():
            if name not in there and self._steady() >= self._refused.get(name, 0.0):
                changed = await self._load(name, folder) or changed
        for name in sorted(self._brought - wanted.keys()):
            self._brought.discard(name)
            if name in there:
                changed = await self._tell("unload_lora_adapter", {"lora_name": name}) or changed
        return changed

    async def _load(self, name: str, folder: Path) -> bool:
        path = _seen_there(folder, self._spec.adapters_folder)
        if await self._tell("load_lora_adapter", {"lora_name": name, "lora_path": path}):
            self._brought.add(name)
            self._refused.pop(name, None)
            log.info("%s has loaded %s", self._spec.name, name)
            return True
        self._refused[name] = self._steady() + RETRY_SECONDS
        return False

    async def _tell(self, command: str, body: dict[str, str]) -> bool:
        try:
            await self._client.post(f"{self._client.remote.url}/{command}", dict(body))
        except UpstreamError as error:
            if "already been loaded" in error.why:
                return True
            log.warning("%s refuses %s of %s: %s", self._spec.name, command, body["lora_name"], error.why)
            return False
        return True


def _seen_there(folder: Path, parent: str) -> str:
    """The path under which the server sees an adapter's folder."""
    return f"{parent.rstrip('/')}/{folder.name}" if parent else str(folder.absolute())
