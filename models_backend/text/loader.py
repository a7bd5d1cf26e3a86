"""From folders to a Backend: weights, tokenizer, adapters, and the evidence that they are what they say.

Safetensors only, from this disk only, without code from strangers. A base that fails raises; an adapter that fails is
refused alone, and the base and the others serve.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from models_backend.config import Settings
from models_backend.protocol.runs import Completion
from models_backend.registry import Entry

from .catalogue import Catalogue
from .contract import Backend, EngineError, Note
from .dialect import TokenizerDialect
from .runner import TorchRunner
from .shelf import MIB, Shelf

log = logging.getLogger(__name__)

PLAIN_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")  # all they do is in tokenizer.json
MEMORY_SHARE = 0.5  # of what is free after the weights, for keys and values


def load(base: Entry, tuned: Sequence[Entry] | Catalogue, settings: Settings, note: Note) -> Backend:
    """`tuned` are the models on this base; a Catalogue may come to have others.

    Raises EngineError: `load_failed`, `unsupported_architecture`.
    """
    catalogue = tuned if isinstance(tuned, Catalogue) else Catalogue(base, tuned)
    if base.folder is None:
        raise EngineError("not_installed", f"{base.id} is not on this machine: python -m models_backend pull {base.id}")
    device = pick_device(settings.device)
    note(f"Loading {base.id} on {device}")
    transformers_logging.disable_progress_bar()  # the worker has its own words for it
    try:
        dialect = _open_dialect(base.folder)
        runner = _open_runner(base.folder, dialect, device, settings, note)
    except EngineError:
        raise
    except Exception as error:
        raise EngineError("load_failed", f"{base.id} cannot be loaded from {base.folder}: {error}") from error
    shelf = Shelf(runner, catalogue, settings.adapter_memory * MIB)
    shelf.fill(note)
    return Backend(dialect, runner, adapters=shelf)


def _open_runner(
    folder: Path, dialect: TokenizerDialect, device: torch.device, settings: Settings, note: Note
) -> TorchRunner:
    """The compiled step over packed weights where it serves this model on this CPU, else transformers' modules."""
    memory = int(_free_memory(device) * MEMORY_SHARE)
    if device.type == "cpu" and settings.precision == "auto":
        from . import native  # brings a compiler with it, which nobody else needs

        def encode(text: str) -> list[int]:
            return dialect.encode(Completion(text))

        if native.fast():
            given = (settings.slots, settings.context, memory, settings.threads, note)
            runner = native.open_runner(folder, encode, *given)
            if runner is not None:
                return runner
    from .modules import open_runner  # two seconds of imports

    return open_runner(folder, device, pick_dtype(device), settings.slots, settings.context, memory, note)


def pick_device(wanted: str) -> torch.device:
    """`auto` is CUDA, else Apple's GPU, else the CPU. Raises EngineError for one that is not there."""
    if wanted == "auto":
        mps = torch.backends.mps.is_available()
        wanted = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        message = f"There is no device {wanted}. Set DIPTYCH_DEVICE to auto or cpu. ({error})"
        raise EngineError("no_device", message) from None
    return device


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA. Else float32, exact enough that a batch gives the tokens that each row gives alone.

    bfloat16 gains nothing for a pair even on a CPU made for it (Zen 4: 36 ms against `narrow`'s 30 ms for all products
    of a step of the default model).
    """
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _open_dialect(folder: Path) -> TokenizerDialect:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # AutoTokenizer would read the config of the model, and import two seconds of model code for it.
    plain = _facts(folder / "tokenizer_config.json").get("tokenizer_class") in PLAIN_TOKENIZERS
    kind: Any = PreTrainedTokenizerFast if plain and (folder / "tokenizer.json").is_file() else AutoTokenizer
    tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    ends = _ends(folder)
    return TokenizerDialect(tokenizer, ends if ends else frozenset({tokenizer.eos_token_id} - {None}))


def _ends(folder: Path) -> frozenset[int]:
    """The ids that end an answer: those of the generation config, else of the model's config, as in generate()."""
    for name in ("generation_config.json", "config.json"):
        found = _facts(folder / name).get("eos_token_id")
        if found is not None:
            return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def _facts(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _free_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 8 << 30  # macOS does not tell; memory is taken only as answers grow
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    with suppress(OSError, ValueError):  # a container's limit; "max" where there is none
        group = Path("/sys/fs/cgroup")
        limit, taken = ((group / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        free = min(free, int(limit) - int(taken))
    return max(0, free)
