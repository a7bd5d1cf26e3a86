"""Small models with random weights, a tokenizer of numbers, and an engine over them: real code, tiny matrices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from models_backend.protocol.events import LaneDone, LaneEvent, LaneFailed, LaneStarted, LaneStopped, LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion, Prompt
from models_backend.protocol.workers import ModelInfo
from models_backend.text import proof
from models_backend.text.adapter_file import AdapterFile
from models_backend.text.adapter_weights import AdapterWeights, read
from models_backend.text.contract import Backend, Request
from models_backend.text.engine import Engine
from models_backend.text.lora import Riders
from models_backend.text.modules import pick_runner
from models_backend.text.runner import TorchRunner

VOCABULARY = 211
CONTEXT = 192
BASE = "tiny"
GREEDY = Params(temperature=0.0, max_tokens=12)

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
_ENDLESS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
KINDS = {
    "llama": ("LlamaConfig", _SIZES),
    "qwen2": ("Qwen2Config", _SIZES),
    "qwen3": ("Qwen3Config", _SIZES),
    "mistral": ("MistralConfig", {**_SIZES, "sliding_window": 8}),
    "gemma2": ("Gemma2Config", {**_SIZES, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", {**_SIZES, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "phi3": ("Phi3Config", _SIZES),
    "mixtral": ("MixtralConfig", {**_SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "gpt2": ("GPT2Config", {**_GPT2, **_ENDLESS}),
    "bloom": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, **_ENDLESS}),
    "mamba": ("MambaConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, **_ENDLESS}),
}


def model(kind: str = "llama", seed: int = 0, **options: object) -> transformers.PreTrainedModel:
    """A model whose next token is no foregone conclusion: weights large enough that attention matters."""
    name, values = KINDS[kind]
    torch.manual_seed(seed)
    config = getattr(transformers, name)(**{**values, **options})
    made = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    with torch.no_grad():
        for path, parameter in made.named_parameters():
            if parameter.dim() > 1:
                outer = any(name in path for name in ("embed", "wte", "wpe", "lm_head"))
                parameter.mul_(4 if outer else 12)
    return made


class Numbers:
    """Text is ids written as numbers: "5 17 3"."""

    eos: frozenset[int] = frozenset()

    def encode(self, prompt: Prompt) -> list[int]:
        assert isinstance(prompt, Completion)
        return [int(word) for word in prompt.text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f" {i}" for i in ids)


def prompt(*ids: int) -> Completion:
    return Completion(" ".join(map(str, ids)))


def engine(made: transformers.PreTrainedModel, adapters: dict[str, Path] | None = None, slots: int = 8) -> Engine:
    """A loaded engine over `made`; `adapters` by the id of the fine-tuned model."""
    runner = pick_runner(made, Riders(), slots, CONTEXT)
    backend = Backend(Numbers(), runner)
    ids = proof.probe(made.config.vocab_size)
    plain = proof.mixed_pass(runner, None, ids)
    for name, folder in (adapters or {}).items():
        weights = attach(runner, name, folder)
        backend.proofs[name] = proof.prove(runner, plain, name, weights.sha256, ids)
    infos = [ModelInfo(BASE, BASE), *(ModelInfo(name, name, base=BASE) for name in adapters or {})]
    ready = Engine(infos, lambda note: backend, "w", slots)
    ready.load()
    return ready


def attach(runner: TorchRunner, name: str, folder: Path) -> AdapterWeights:
    """Bring the adapter in `folder` over the model of `runner`."""
    weights = read(name, AdapterFile.read(folder))
    runner.attach(runner.prepare(weights))
    return weights


def adapter(made: transformers.PreTrainedModel, folder: Path, seed: int = 1, **options: object) -> Path:
    """Save a PEFT adapter with random weights for a copy of `made`."""
    tuned(made, seed, **options).save_pretrained(str(folder))
    return folder


def tuned(made: transformers.PreTrainedModel, seed: int = 1, **options: object) -> torch.nn.Module:
    """A copy of `made` with a PEFT adapter over it, as if it had been trained."""
    import copy

    import peft

    torch.manual_seed(seed)
    values = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    model = peft.get_peft_model(copy.deepcopy(made), peft.LoraConfig(**values))  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:  # the halves that begin as zeros
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@dataclass
class Heard:
    """What became of one lane."""

    events: list[LaneEvent] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [i for event in self.events if isinstance(event, LaneToken) for i in event.ids]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, LaneToken))

    @property
    def started(self) -> LaneStarted:
        return next(event for event in self.events if isinstance(event, LaneStarted))

    @property
    def end(self) -> LaneDone | LaneStopped | LaneFailed:
        last = self.events[-1]
        assert isinstance(last, LaneDone | LaneStopped | LaneFailed), last
        return last


def listen(heard: dict[tuple[str, int], Heard], events: Iterable[tuple[str, LaneEvent]]) -> None:
    for run, event in events:
        heard.setdefault((run, event.lane), Heard()).events.append(event)


def answer(ready: Engine, *requests: Request) -> list[Heard]:
    """Submit all together, run to the end."""
    heard: dict[tuple[str, int], Heard] = {}
    ready.submit(*requests)
    while ready.busy:
        listen(heard, ready.step())
    return [heard[request.run, request.lane] for request in requests]


def ask(
    ids: Prompt, lane: int = 0, model: str = BASE, params: Params = GREEDY, seed: int = 1, run: str = "r"
) -> Request:
    return Request(run, lane, model, ids, params, seed)


def generated(made: transformers.PreTrainedModel, ids: Sequence[int], count: int = 12) -> list[int]:
    """What transformers' own generate() answers, greedily."""
    batch = torch.tensor([list(ids)])
    out = made.generate(batch, attention_mask=torch.ones_like(batch), do_sample=False, max_new_tokens=count)
    return out[0, len(ids) :].tolist()
