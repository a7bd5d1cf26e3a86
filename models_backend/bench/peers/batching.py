"""transformers' continuous batching in the same process, without HTTP between."""

import time
from collections.abc import Sequence
from itertools import count
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from models_backend.bench.contestant import Jobs

from . import reference
from .bounds import PAGE, PAGES, TOKENS


def jobs(options: dict[str, Any]) -> Jobs:
    model, tokenizer = reference.load(options["model"])
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=64)
    bounds = ContinuousBatchingConfig(page_size=PAGE, num_blocks=PAGES, max_batch_tokens=TOKENS)
    manager = model.init_continuous_batching(generation_config=generation, continuous_batching_config=bounds)
    manager.start()
    numbers = count()

    def answer(rows: int, texts: Sequence[str], tokens: int) -> dict[str, Any]:
        prompts = [tokenizer(text).input_ids for text in texts[:rows]]
        streams: dict[str, list[float]] = {}
        began = time.monotonic()
        for prompt in prompts:
            name = str(next(numbers))
            streams[name] = []
            manager.add_request(prompt, request_id=name, max_new_tokens=tokens, streaming=True)
        left = set(streams)
        while left:
            result = manager.get_result(timeout=30)
            if result is None or result.error:
                raise RuntimeError(f"continuous batching gave up: {result and result.error}")
            streams[result.request_id].append(time.monotonic())
            if result.is_finished():
                left.discard(result.request_id)
        return {"began": began, "streams": list(streams.values())}

    return {"answer": answer}
