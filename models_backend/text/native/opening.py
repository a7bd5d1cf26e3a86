"""From a model's folder to a runner: the packed weights, made once and held against the model that they came from."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from models_backend.text.contract import Feed, Note, Score

from . import layout, packed_file
from .pack import Unpackable
from .packed_file import PackedFile, Unreadable
from .records import Model
from .runner import NativeRunner
from .shape import Shape, why_not
from .tuning import pick_threads

log = logging.getLogger(__name__)

Encode = Callable[[str], list[int]]

MAX_KL = 0.01  # nats, mean over the texts below: further from float32 and what a fine-tune did could drown in it
TEXTS = (
    "Once upon a time, in a small village by the sea, there lived an old lighthouse keeper who wrote a letter every "
    "evening. He wrote about the ships that had passed, about the weather, and about the gulls on his window.",
    "def mean(values: list[float]) -> float:\n    if not values:\n        raise ValueError('no values')\n    return "
    "sum(values) / len(values)\n\n\nprint(mean([1.5, 2.5, 3.5]))\n",
    "Photosynthesis is the process by which plants use sunlight, water and carbon dioxide to create oxygen and energy "
    "in the form of sugar. It takes place in the chloroplasts, which hold a green pigment called chlorophyll.",
    "Subject: order 4417\nHello, I bought the blue lamp on 3 May and it arrived broken. Could you send me another one, "
    "or give me my money back? Thank you, Maria\n\nDear Maria, we are sorry to hear that.",
)


def open_runner(
    folder: Path, encode: Encode, slots: int, cap: int, memory: int, threads: int | None, note: Note
) -> NativeRunner | None:
    """A runner over the packed weights of the model in `folder`, or None where the kernels should not serve it.

    `encode` gives the ids of a text; `cap` bounds the context (tokens); `memory` (bytes) is for keys and values;
    `threads` None is measured. Packs the weights when that was not done yet, which takes seconds and as much memory as
    the model in float32.
    """
    try:
        found = _tables(packed_file.read(folder), cap)
    except Unreadable as error:
        log.info("the weights of %s are packed: %s", folder.name, error)
        file = _pack(folder, encode, note)
        found = None if file is None else _tables(file, cap)
    if found is None:
        return None
    model, shape = found
    note("Compiling the kernels for this processor, if that was not done yet")
    runner = NativeRunner(model, shape.tied, slots, len(model.cos), memory, threads or 1)
    runner.probe([Feed(0, None, 0, [0], None)])
    if threads is None:
        runner.use_threads(pick_threads(runner, folder))
    return runner


def _tables(file: PackedFile, cap: int) -> tuple[Model, Shape] | None:
    """None if the packed weights are further from float32 than they may be. Raises Unreadable."""
    try:
        kl = float(file.facts["kl"])
        if kl > MAX_KL:
            log.warning("packed weights would move this model's answers by a KL of %.3g: float32 serves it", kl)
            return None
        shape = msgspec.json.decode(file.facts["shape"], type=Shape)
        return layout.arrange(file, shape, min(cap, shape.positions)), shape
    except (KeyError, ValueError) as error:
        raise Unreadable(f"its facts are damaged ({error})") from None


def divergence(runner: NativeRunner, texts: list[list[int]], logprobs: list[torch.Tensor]) -> tuple[float, float]:
    """Mean KL(float32 || runner) in nats over all positions, and the share where both have the same likeliest token.

    `logprobs` are [ids, vocabulary] of each text, by the model as it was.
    """
    kl, same = [], []
    for ids, expected in zip(texts, logprobs, strict=True):
        found = runner.probe([Feed(0, None, 0, ids, None, score=Score([0] * len(ids), 0))]).log_softmax(-1)
        kl.append((expected.exp() * (expected - found)).sum(-1))
        same.append(expected.argmax(-1) == found.argmax(-1))
    return float(torch.cat(kl).mean()), float(torch.cat(same).float().mean())


def _pack(folder: Path, encode: Encode, note: Note) -> PackedFile | None:
    """Pack, measure, write; None for a model that the kernels do not know.

    A file whose KL is too high is written too, so that it is not tried again at each start.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    why = why_not(config)
    if why is not None:
        log.info("no packed weights for %s: %s", folder.name, why)
        return None
    note("Packing the weights for this processor (once)")
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
    ).eval()
    try:
        file = lay_out(model)
    except Unpackable as error:
        log.info("no packed weights for %s: %s", folder.name, error)
        file = packed_file.lay_out({})
        file.facts.update(kl=str(math.inf))
        _keep(folder, file)
        return file
    note("Comparing the packed weights with float32 (once)")
    texts = [encode(text) for text in TEXTS]
    with torch.inference_mode():
        logprobs = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1) for ids in texts]
    runner = over(file, 1, max(len(ids) for ids in texts), 1 << 40, 1)
    kl, same = divergence(runner, texts, logprobs)
    file.facts.update(kl=f"{kl:.6f}", same=f"{same:.4f}")
    log.info("%s, packed: KL %.5f from float32, the same likeliest token in %.1f %%", folder.name, kl, 100 * same)
    _keep(folder, file)
    return file


def lay_out(model: Any) -> PackedFile:
    """The packed weights of a transformers model in float32. Raises Unpackable."""
    rope = model.model.rotary_emb
    shape = Shape.of(model.config, float(rope.attention_scaling))
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    file = packed_file.lay_out(layout.gather(state, shape, rope.inv_freq.numpy()))
    file.facts.update(shape=msgspec.json.encode(shape).decode())
    return file


def over(file: PackedFile, slots: int, context: int, memory: int, threads: int) -> NativeRunner:
    """A runner over packed weights that are in memory."""
    shape = msgspec.json.decode(file.facts["shape"], type=Shape)
    return NativeRunner(layout.arrange(file, shape, context), shape.tied, slots, context, memory, threads)


def _keep(folder: Path, file: PackedFile) -> None:
    try:
        packed_file.write(folder, file, file.facts)
    except OSError as error:  # a folder that is not ours to write to: it works, but is done at each start
        log.warning("the packed weights of %s cannot be kept: %s", folder.name, error)
