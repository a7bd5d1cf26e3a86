"""LoRA fine-tuning, the whole of it: a base, rows and a recipe go in, an adapter in PEFT's format comes out.

Knows weights, losses and learning rates. Does not know where models or data live, nor who watches: each step is
told to the caller, who may end the training by raising.
"""

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from models_backend.training.batches import IGNORE, Batch, encode, epoch
from models_backend.training.recipe import Recipe
from models_backend.training.rows import Row


@dataclass(frozen=True, slots=True)
class Step:
    """What is known after one step. Loss is the mean over the batch's answer tokens, in nats."""

    number: int
    steps: int
    loss: float
    learning_rate: float
    gradient: float
    tokens: int
    seconds: float
    """Since the first step began."""

    @property
    def remaining(self) -> float:
        """Seconds until the end, if the steps to come are as fast as those so far."""
        return self.seconds / self.number * (self.steps - self.number)


def load(folder: Path) -> tuple[Any, Any]:
    """The model of a folder in float32 and its tokenizer. Never runs code or unpickles what the folder brings."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def train(recipe: Recipe, rows: Sequence[Row], base: Path, on_step: Callable[[Step], None]) -> PeftModel:
    """Train an adapter for the model in `base`. The same recipe, rows and machine give the same adapter."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        plain, tokenizer = load(base)
        model = get_peft_model(
            plain.to(device),
            LoraConfig(
                r=recipe.rank,
                lora_alpha=recipe.alpha,
                target_modules=list(recipe.targets),
                lora_dropout=0.0,
                bias="none",
                task_type="CAUSAL_LM",
            ),
        )
        # The folder it was trained from means nothing on another machine; the id does.
        model.peft_config["default"].base_model_name_or_path = recipe.base
        examples = encode(rows, tokenizer, recipe.max_tokens)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
        steps = recipe.epochs * math.ceil(len(examples) / recipe.batch_rows)
        dice = random.Random(recipe.seed)
        started, number = time.monotonic(), 0
        model.train()
        for _ in range(recipe.epochs):
            for batch in epoch(examples, recipe.batch_rows, tokenizer.pad_token_id, dice):
                number += 1
                rate = learning_rate(recipe, number, steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = answer_loss(model, batch, device)
                loss.backward()  # type: ignore[no-untyped-call]
                gradient = torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                seconds = time.monotonic() - started
                tokens = int(batch.mask.sum())
                on_step(Step(number, steps, loss.item(), rate, gradient.item(), tokens, seconds))
        return model.eval()


def learning_rate(recipe: Recipe, number: int, steps: int) -> float:
    """The rate of step `number` (from 1): up in a line to the peak, then down as a cosine to a tenth of it."""
    rising = max(1, round(recipe.warmup * steps))
    if number <= rising:
        return recipe.learning_rate * number / rising
    done = (number - rising) / max(1, steps - rising)
    return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def answer_loss(model: Any, batch: Batch, device: str) -> torch.Tensor:
    """Mean cross entropy of the answer tokens (nats), each predicted from everything before it."""
    logits = model(
        input_ids=batch.ids.to(device),
        attention_mask=batch.mask.to(device),
        position_ids=batch.positions.to(device),
        logits_to_keep=batch.keep,
        use_cache=False,
    ).logits
    labels = batch.labels[:, -batch.keep :].to(device)
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE)


def save(model: PeftModel, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as PEFT names and reads them. The model stays as it is.

    Half precision halves the file; figures are always taken from the file as stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.to(dtype).contiguous() for name, weight in get_peft_model_state_dict(model).items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_model.safetensors").chmod(0o644)  # safetensors keeps its files to their owner
    model.peft_config["default"].save_pretrained(str(folder))
    # PEFT keeps the targets in a set, whose order differs from process to process.
    config = folder / "adapter_config.json"
    facts = json.loads(config.read_text(encoding="utf-8"))
    facts |= {"target_modules": sorted(facts["target_modules"]), "inference_mode": True}
    config.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
