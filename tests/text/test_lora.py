"""Adapters over the base: the plain rows keep their bits, the others get the merged model's answers."""

import copy
import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from models_backend.text import lora, proof
from models_backend.text.contract import EngineError
from models_backend.text.loader import pick_runner
from models_backend.text.lora import Riders

from . import tiny

IDS = [(i * 13) % tiny.VOCABULARY for i in range(30)]


def merged(made: torch.nn.Module, folder: Path) -> torch.nn.Module:
    tuned = peft.PeftModel.from_pretrained(copy.deepcopy(made), str(folder))
    return tuned.merge_and_unload()


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "mamba"])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}], ids=["lora", "rslora"])
def test_rows_with_adapters_answer_like_the_merged_models(
    kind: str, options: dict[str, object], tmp_path: Path
) -> None:
    made = tiny.model(kind)
    if kind == "mamba":  # PEFT does not touch the others, which fused kernels read directly
        options = {**options, "target_modules": ["in_proj"]}
    folders = {f"ft:{n}": tiny.adapter(made, tmp_path / str(n), seed=n, **options) for n in (1, 2)}
    expected = [tiny.generated(made, IDS)]
    expected += [tiny.generated(merged(made, folder), IDS) for folder in folders.values()]
    assert len({tuple(ids) for ids in expected}) == 3
    ready = tiny.engine(copy.deepcopy(made), folders)
    models = [tiny.BASE, *folders]
    rows = [2, 0, 1, 2, 0]  # rows of one adapter need not lie side by side
    heard = tiny.answer(ready, *(tiny.ask(tiny.prompt(*IDS), lane, models[row]) for lane, row in enumerate(rows)))
    assert [one.ids for one in heard] == [expected[row] for row in rows]


def test_a_row_without_adapter_is_bit_equal_to_the_plain_model(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    riders = Riders()
    runner = pick_runner(made, riders, 4, tiny.CONTEXT)
    feeds = [proof.ask(slot, None, 0, IDS) for slot in range(4)]
    plain = runner.logits(feeds)
    lora.attach(made, riders, "ft", folder)
    mixed = runner.logits([proof.ask(slot, "ft" if slot in (1, 2) else None, 0, IDS) for slot in range(4)])
    assert torch.equal(mixed[[0, 3]], plain[[0, 3]])
    assert not torch.isclose(mixed[[1, 2]], plain[[1, 2]]).all(1).any()


def test_an_adapter_is_proven_when_it_moves_logits_and_leaves_the_base_alone(tmp_path: Path) -> None:
    made = tiny.model()
    ready = tiny.engine(made, {"ft": tiny.adapter(made, tmp_path)})
    found = ready.models()[1].proof
    assert found is not None
    assert (found.state, found.base_bit_equal) == ("proven", True)
    assert found.max_delta > 0
    assert found.adapter_sha256 == ready.models()[1].sha256


def test_the_proof_fails_when_the_base_row_changes(tmp_path: Path) -> None:
    made = tiny.model()
    riders = Riders()
    runner = pick_runner(made, riders, 4, tiny.CONTEXT)
    plain = proof.mixed_pass(runner, None, tiny.VOCABULARY)
    digest = lora.attach(made, riders, "ft", tiny.adapter(made, tmp_path))
    made.lm_head.weight[0, 0] += 1e-3  # as a careless merge into the base's weights would
    found = proof.prove(runner, plain, "ft", digest, tiny.VOCABULARY)
    assert (found.state, found.base_bit_equal) == ("failed", False)


def test_the_proof_fails_when_nothing_differs(tmp_path: Path) -> None:
    made = tiny.model()
    riders = Riders()
    runner = pick_runner(made, riders, 4, tiny.CONTEXT)
    plain = proof.mixed_pass(runner, None, tiny.VOCABULARY)
    lora.attach(made, riders, "ft", tiny.adapter(made, tmp_path))
    assert proof.prove(runner, plain, "another", "0" * 64, tiny.VOCABULARY).state == "failed"


def test_the_proof_fails_and_stays_a_number_when_the_adapter_overflows(tmp_path: Path) -> None:
    made = tiny.model()
    riders = Riders()
    runner = pick_runner(made, riders, 4, tiny.CONTEXT)
    plain = proof.mixed_pass(runner, None, tiny.VOCABULARY)
    folder = tiny.adapter(made, tmp_path)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({key: w * 1e30 for key, w in weights.items()}, folder / "adapter_model.safetensors")
    digest = lora.attach(made, riders, "ft", folder)
    found = proof.prove(runner, plain, "ft", digest, tiny.VOCABULARY)
    assert (found.state, found.base_bit_equal, found.max_delta) == ("failed", True, 0.0)
    assert "not finite" in found.detail


def damaged(folder: Path, change: str) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = load_file(folder / "adapter_model.safetensors")
    first = next(key for key in weights if "lora_A" in key)
    second = first.replace("lora_A", "lora_B")
    match change:
        case "dora":
            config["use_dora"] = True
        case "saves a module":
            config["modules_to_save"] = ["lm_head"]
        case "pissa":
            config["init_lora_weights"] = "pissa"
        case "bias":
            config["bias"] = "all"
        case "rank pattern":
            config["rank_pattern"] = {"q_proj": 2}
        case "future":
            config["use_quantum"] = {"qubits": 4}
        case "kind":
            config["peft_type"] = "LOHA"
        case "rank":
            config["r"] = 8
        case "huge rank":
            config["r"] = 10**9
        case "alpha":
            config["lora_alpha"] = "8"
        case "stranger":
            weights["base_model.model.evil"] = torch.zeros(2, 2)
        case "no such layer":
            weights[first.replace("layers.0", "layers.9")] = weights.pop(first)
            weights[second.replace("layers.0", "layers.9")] = weights.pop(second)
        case "half":
            del weights[second]
        case "nan":
            weights[first][0, 0] = float("nan")
        case "zero":
            weights = {key: torch.zeros_like(w) if "lora_B" in key else w for key, w in weights.items()}
        case "not a linear layer":
            path = "base_model.model.model.norm.lora_%s.weight"
            weights |= {path % "A": torch.ones(4, 32), path % "B": torch.ones(32, 4)}
        case "integers":
            weights[first] = weights[first].to(torch.int32)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(weights, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("dora", "use_dora"),
        ("saves a module", "modules_to_save"),
        ("pissa", "pissa"),
        ("bias", "biases"),
        ("rank pattern", "rank_pattern"),
        ("future", "use_quantum"),
        ("kind", "only LoRA"),
        ("rank", "has the shape [4, "),
        ("huge rank", "rank r is 1000000000"),
        ("alpha", "lora_alpha is '8'"),
        ("stranger", "base_model.model.evil"),
        ("no such layer", "no model.layers.9"),
        ("half", "half of the pair"),
        ("nan", "not finite"),
        ("zero", "changes nothing"),
        ("not a linear layer", "RMSNorm"),
        ("integers", "type I32"),
    ],
)
def test_an_adapter_that_cannot_be_computed_is_refused_by_name(change: str, words: str, tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    damaged(folder, change)
    before = {name: type(module) for name, module in made.named_modules()}
    with pytest.raises(EngineError) as refusal:
        lora.attach(made, Riders(), "ft", folder)
    assert refusal.value.code == "adapter_refused"
    assert words in refusal.value.message
    assert {name: type(module) for name, module in made.named_modules()} == before


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(EngineError, match="pickle"):
        lora.attach(made, Riders(), "ft", folder)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 8,
        (10**12).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a":1}  ',
        (200).to_bytes(8, "little") + b'{"a"' + b" " * 300,
    ],
    ids=["empty", "only a length", "longer than the file", "a list", "a number", "not JSON"],
)
def test_a_broken_header_is_refused(raw: bytes, tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(raw)
    with pytest.raises(EngineError, match=r"not a sound safetensors file|no LoRA|no weights"):
        lora.attach(made, Riders(), "ft", folder)


def test_a_tensor_that_lies_outside_the_file_is_refused(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    whole = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(whole[:-4])
    with pytest.raises(EngineError, match="does not lie inside the file"):
        lora.attach(made, Riders(), "ft", folder)
