"""What kind of model the kernels compute: which ones they can, and the numbers that a step must know of one.

Kept beside the packed weights, so that opening them needs no model library.
"""

from typing import Any

from msgspec import Struct

from .dot import BLOCK, LANES

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
ROPES = ("default", "linear", "llama3", "yarn")


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """`inner` is the width of the MLP, `size` that of a head, `window` how far a row looks back (0: all positions).

    `positions` is what it was made for, `scaling` what the rope multiplies by. `tied`: head and embedding are one.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    size: int
    vocabulary: int
    window: int
    positions: int
    epsilon: float
    scaling: float
    tied: bool

    @classmethod
    def of(cls, config: Any, scaling: float) -> "Shape":
        """The shape of a model with this transformers config, of which `why_not` says nothing."""
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            size=_head_size(config),
            vocabulary=config.vocab_size,
            window=_window(config),
            positions=config.max_position_embeddings,
            epsilon=float(config.rms_norm_eps),
            scaling=scaling,
            tied=bool(config.tie_word_embeddings),
        )


def why_not(config: Any) -> str | None:
    """Why a model of this transformers config is not for the kernels, or None when it is."""
    if config.model_type not in FAMILIES:
        return f"{config.model_type} is not one of {', '.join(FAMILIES)}"
    if getattr(config, "quantization_config", None):
        return "its weights are quantised in another way"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}"
    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") not in ROPES or rope.get("partial_rotary_factor", 1) != 1:
        return "its positions are encoded in another way"
    if len(set(getattr(config, "layer_types", None) or ["one"])) > 1:
        return "its layers differ in kind"
    size = _head_size(config)
    widths = (size * config.num_attention_heads, size * config.num_key_value_heads, config.intermediate_size)
    if any(width % BLOCK for width in (config.hidden_size, *widths)) or config.vocab_size % LANES or size % LANES:
        return f"its sizes are not multiples of {BLOCK} and {LANES}"
    return None


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _window(config: Any) -> int:
    """Positions that a row looks back; 0 for all."""
    kinds = getattr(config, "layer_types", None)
    if kinds and set(kinds) == {"full_attention"}:
        return 0
    return int(getattr(config, "sliding_window", None) or 0)
