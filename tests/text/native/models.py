"""Tiny models of the families that the kernels serve, as transformers has them and as a NativeRunner."""

from typing import Any

import torch

from models_backend.text.native.opening import lay_out, over
from models_backend.text.native.pack import pack, unpack
from models_backend.text.native.runner import NativeRunner
from tests.text import tiny

VOCABULARY = 224
CONTEXT = 160
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 96,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
}


def model(kind: str = "llama", **options: Any) -> Any:
    """A tiny model whose weights are those that its packed form stands for, so that only activations are rounded."""
    made = tiny.model(kind, **{**SIZES, **options})
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.from_numpy(unpack(pack(parameter.numpy()))))
            elif name.endswith("bias"):
                parameter.normal_(0, 0.5)
            else:
                parameter.normal_(1, 0.2)
    return made


def runner(made: Any, slots: int = 6, threads: int = 1, memory: int = 1 << 30, context: int = CONTEXT) -> NativeRunner:
    return over(lay_out(made), slots, context, memory, threads)


def said(made: Any, ids: list[int]) -> torch.Tensor:
    """[ids, vocabulary] log-probabilities by transformers."""
    with torch.inference_mode():
        return made(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)


def near(found: torch.Tensor, expected: torch.Tensor, nats: float = 0.01) -> None:
    """Activations of 8 bits: the distributions agree, the last digits do not."""
    logprobs = found.log_softmax(-1)
    kl = (expected.exp() * (expected - logprobs)).sum(-1)
    assert float(kl.mean()) < nats, f"KL {float(kl.mean()):.4f}"
