"""How fast this machine reads memory: the limit of decoding, which reads all weights once for each step."""

import time
from typing import Any

from models_backend.bench.contestant import Jobs
from models_backend.config import Settings
from models_backend.text import threads

BYTES = {"cpu": 512 << 20, "cuda": 4 << 30}  # far more than any cache holds
ROW = 4096


def jobs(options: dict[str, Any]) -> Jobs:
    settings = Settings()
    threads.configure(settings)
    import torch

    from models_backend.text.loader import pick_device, pick_dtype

    device = pick_device(settings.device)
    dtype = pick_dtype(device)
    size = torch.empty(0, dtype=dtype).element_size()
    count = int(options.get("bytes", BYTES.get(device.type, BYTES["cpu"]))) // size
    matrix = torch.ones(max(1, count // ROW), ROW, dtype=dtype, device=device)
    vector = torch.ones(ROW, dtype=dtype, device=device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    @torch.inference_mode()
    def read() -> dict[str, float]:
        """A matrix times a vector, which is what a step does, with a matrix that no cache holds."""
        wait()
        began = time.perf_counter()
        for _ in range(3):
            torch.mv(matrix, vector)
        wait()
        return {"gb_per_second": 3 * matrix.numel() * size / (time.perf_counter() - began) / 1e9}

    return {"read": read}
