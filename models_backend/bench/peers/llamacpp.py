"""llama.cpp through the wheel llama-cpp-python, on the GGUF file itself, by its low-level batch API.

That is the fastest way it has: its own kernels, all lanes in one `llama_decode`, its own greedy sampler, and no server
between.
"""

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import llama_cpp as ll

from models_backend.bench.contestant import Jobs

BATCH = 512  # tokens of one pass of a prompt


def jobs(options: dict[str, Any]) -> Jobs:
    """`gguf` is the file, `threads` and `slots` as the engine has them."""
    contestant = Contestant(options["gguf"], int(options["threads"]), int(options["slots"]))
    return {"answer": contestant.answer, "facts": lambda: {"llama_cpp": ll.__version__}}


class Contestant:
    def __init__(self, gguf: str, threads: int, slots: int) -> None:
        self._quiet = ll.llama_log_callback(lambda level, text, data: None)  # kept: C calls it
        ll.llama_log_set(self._quiet, None)
        ll.llama_backend_init()
        model = ll.llama_model_default_params()
        model.n_gpu_layers = 0
        self._model = ll.llama_model_load_from_file(gguf.encode(), model)
        if not self._model:
            raise RuntimeError("llama.cpp cannot read the file")
        context = ll.llama_context_default_params()
        context.n_ctx, context.n_seq_max, context.kv_unified = 4096, slots, True
        context.n_batch = context.n_ubatch = BATCH
        context.n_threads = context.n_threads_batch = threads
        self._context = ll.llama_init_from_model(self._model, context)
        if not self._context:
            raise RuntimeError("llama.cpp cannot make a context")
        self._vocabulary = ll.llama_model_get_vocab(self._model)
        self._sampler = ll.llama_sampler_init_greedy()
        self._batch = ll.llama_batch_init(BATCH, 0, 1)
        self._slots = slots

    def answer(self, rows: int, texts: Sequence[str], tokens: int) -> dict[str, Any]:
        if not 1 <= rows <= self._slots:
            raise RuntimeError(f"there are {self._slots} slots for {rows} rows")
        ll.llama_memory_clear(ll.llama_get_memory(self._context), False)
        streams: list[list[float]] = [[] for _ in range(rows)]
        began = time.monotonic()
        prompts = [self._ids(text) for text in texts[:rows]]
        latest = [self._prefill(row, prompt) for row, prompt in enumerate(prompts)]
        for step in range(tokens):
            now = time.monotonic()
            for row in range(rows):
                self._piece(latest[row])
                streams[row].append(now)
            if step == tokens - 1:
                break
            self._fill([(latest[row], len(prompts[row]) + step, row, True) for row in range(rows)])
            latest = [ll.llama_sampler_sample(self._sampler, self._context, row) for row in range(rows)]
        return {"began": began, "streams": streams}

    def _prefill(self, row: int, prompt: Sequence[int]) -> int:
        for start in range(0, len(prompt), BATCH):
            piece = prompt[start : start + BATCH]
            last = start + len(piece) == len(prompt)
            self._fill([(id, start + i, row, last and i == len(piece) - 1) for i, id in enumerate(piece)])
        return int(ll.llama_sampler_sample(self._sampler, self._context, -1))

    def _fill(self, entries: Sequence[tuple[int, int, int, bool]]) -> None:
        """Decode tokens given as (id, position, row, whether its logits are wanted)."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (id, place, row, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i] = id, place
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, row
            batch.logits[i] = wanted
        if ll.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")

    def _ids(self, text: str) -> list[int]:
        raw = text.encode()
        room = (ll.llama_token * (len(raw) + 8))()
        found = ll.llama_tokenize(self._vocabulary, raw, len(raw), room, len(room), True, True)
        if found < 1:
            raise RuntimeError("llama.cpp cannot read the prompt")
        return list(room[:found])

    def _piece(self, id: int) -> bytes:
        room = ctypes.create_string_buffer(64)
        size = ll.llama_token_to_piece(self._vocabulary, id, room, len(room), 0, True)
        return room.raw[: max(0, size)]
