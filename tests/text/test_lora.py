"""Adapters over the base: the plain rows keep their bits, the others get what PEFT computes."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from models_backend.text import proof
from models_backend.text.adapter_file import AdapterFile
from models_backend.text.adapter_weights import read
from models_backend.text.contract import EngineError, Feed, Score
from models_backend.text.lora import Riders
from models_backend.text.modules import pick_runner
from models_backend.text.runner import TorchRunner

from . import tiny

IDS = [(i * 13) % tiny.VOCABULARY for i in range(30)]
PROBE = proof.probe(tiny.VOCABULARY)
GPT2 = ["c_attn", "c_proj", "c_fc"]


def opened(made: torch.nn.Module, slots: int = 6) -> TorchRunner:
    return pick_runner(copy.deepcopy(made), Riders(), slots, tiny.CONTEXT)


def merged(made: torch.nn.Module, folder: Path, strength: float = 1.0) -> Any:
    """The model as PEFT merges it, with the adapter's scales times `strength`."""
    tuned = peft.PeftModel.from_pretrained(copy.deepcopy(made), str(folder))
    for module in tuned.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.set_scale("default", strength)
    return tuned.merge_and_unload()


def said(model: torch.nn.Module, ids: list[int] = IDS) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0]


def row(slot: int, adapter: str | None, strength: float = 1.0, ids: list[int] = IDS, start: int = 0) -> Feed:
    """Asks for the logits at all of its positions."""
    return Feed(slot, adapter, start, ids, None, strength, score=Score([0] * len(ids), 0))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_rows_with_adapters_answer_like_the_merged_models(kind: str, tmp_path: Path) -> None:
    made = tiny.model(kind)
    # PEFT does not touch the others of mamba's, which fused kernels read directly.
    options: dict[str, Any] = {"target_modules": ["in_proj"]} if kind == "mamba" else {"use_rslora": True}
    folders = {f"ft:{n}": tiny.adapter(made, tmp_path / str(n), seed=n, **options) for n in (1, 2)}
    expected = [tiny.generated(made, IDS)]
    expected += [tiny.generated(merged(made, folder), IDS) for folder in folders.values()]
    assert len({tuple(ids) for ids in expected}) == 3
    ready = tiny.engine(copy.deepcopy(made), folders)
    models = [tiny.BASE, *folders]
    rows = [2, 0, 1, 2, 0]  # rows of one adapter need not lie side by side
    heard = tiny.answer(ready, *(tiny.ask(tiny.prompt(*IDS), lane, models[row]) for lane, row in enumerate(rows)))
    assert [one.ids for one in heard] == [expected[row] for row in rows]


# What an adapter may change --------------------------------------------------------------------------------------

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
TARGETS = {
    "attention": ATTENTION,
    "mlp": MLP,
    "embeddings": ["embed_tokens"],
    "lm_head": ["lm_head"],
    "everything": [*ATTENTION, *MLP, "embed_tokens", "lm_head"],
}
PARTS = [
    *(("llama", name, targets) for name, targets in TARGETS.items()),
    *(("qwen2", name, TARGETS[name]) for name in ("attention", "everything")),  # its attention has biases
    ("gpt2", "attention and mlp", GPT2),
    ("gpt2", "embeddings", ["wte", "wpe"]),
    ("gpt2", "everything", [*GPT2, "wte", "wpe", "lm_head"]),
    ("gemma3", "everything", TARGETS["everything"]),  # its table multiplies what it gives
]


@pytest.mark.parametrize(("kind", "name", "targets"), PARTS, ids=[f"{kind} {name}" for kind, name, _ in PARTS])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_each_part_of_a_model_can_be_changed(
    kind: str, name: str, targets: list[str], dora: bool, tmp_path: Path
) -> None:
    made = tiny.model(kind, tie_word_embeddings=False)
    if dora and kind == "gemma3":
        targets = [one for one in targets if one != "embed_tokens"]  # PEFT scales those twice in its forward pass
    folder = tiny.adapter(made, tmp_path, target_modules=targets, use_dora=dora)
    if dora:
        stretch(folder)
    expected = said(merged(made, folder))
    plain = said(made)
    assert float((expected - plain).abs().max()) > 0.1 * float(plain.abs().max())
    runner = opened(made)
    tiny.attach(runner, "ft", folder)
    out = runner.logits([row(0, "ft"), row(1, None), row(2, "ft")]).view(3, len(IDS), -1)
    close(out[0], expected)
    close(out[2], expected)
    close(out[1], plain)


def stretch(folder: Path) -> None:
    """As training does: magnitudes that are no longer the base's."""
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    for n, (key, tensor) in enumerate(sorted(weights.items())):
        if "magnitude" in key:
            weights[key] = tensor * (0.6 + 0.1 * (n % 9))
    save_file(weights, path)


def test_ranks_and_alphas_of_their_own_hold_for_the_modules_that_they_name(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(
        made,
        tmp_path,
        rank_pattern={"layers.0.self_attn.q_proj": 2, "^lm_head": 8, "down_proj": 7},
        alpha_pattern={"q_proj": 16, r"layers\.1\.mlp\.down_proj": 3, "down_proj": 5},
        target_modules=["q_proj", "down_proj", "lm_head"],
    )
    runner = opened(made)
    tiny.attach(runner, "ft", folder)
    close(runner.logits([row(0, "ft")]), said(merged(made, folder)))


# Strength ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_strengths_of_one_adapter_mix_in_one_pass(kind: str, tmp_path: Path) -> None:
    """Two lanes of the same adapter at -0.5 and 2 beside the base, another adapter, and 1."""
    made = tiny.model(kind, tie_word_embeddings=False)
    targets = TARGETS["everything"] if kind == "llama" else [*GPT2, "wte", "wpe", "lm_head"]
    folders = {
        name: tiny.adapter(made, tmp_path / name, seed, target_modules=targets) for seed, name in enumerate("ab")
    }
    runner = opened(made)
    for name, folder in folders.items():
        tiny.attach(runner, name, folder)
    rows = [("a", -0.5), (None, 1.0), ("b", 0.3), ("a", 2.0), ("a", 1.0), ("b", 0.0)]
    out = runner.logits([row(slot, *one) for slot, one in enumerate(rows)]).view(len(rows), len(IDS), -1)
    for found, (name, strength) in zip(out, rows, strict=True):
        close(found, said(merged(made, folders[name], strength) if name else made))
    assert torch.equal(out[1], out[5])  # nothing times an adapter is the base, to the bit


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_a_row_at_strength_0_is_bit_equal_to_the_plain_model(kind: str, tmp_path: Path) -> None:
    made = tiny.model(kind)
    folder = tiny.adapter(made, tmp_path, **({"target_modules": ["in_proj"]} if kind == "mamba" else {}))
    runner = opened(made)
    plain = runner.logits([row(slot, None) for slot in range(3)])
    tiny.attach(runner, "ft", folder)
    for strengths in ((0.0, 0.0, 0.0), (-0.0, 0.0, 0.0)):
        assert torch.equal(runner.logits([row(slot, "ft", power) for slot, power in enumerate(strengths)]), plain)
    count = len(IDS)
    mixed = runner.logits([row(0, "ft", 0.0), row(1, "ft", 2.0), row(2, None)])
    assert torch.equal(mixed[:count], plain[:count])
    assert torch.equal(mixed[2 * count :], plain[2 * count :])


@pytest.mark.parametrize("beside", [0.5, -0.5, 2.0])
def test_a_row_at_strength_1_has_the_same_bits_beside_other_strengths(beside: float, tmp_path: Path) -> None:
    made = tiny.model()
    runner = opened(made)
    tiny.attach(runner, "ft", tiny.adapter(made, tmp_path))
    plain = runner.logits([row(0, "ft"), row(1, "ft")])
    mixed = runner.logits([row(0, "ft"), row(1, "ft", beside)])
    assert torch.equal(mixed[: len(IDS)], plain[: len(IDS)])
    assert not torch.isclose(mixed[len(IDS) :], plain[len(IDS) :]).all()


def test_rows_of_one_adapter_share_its_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows and strengths: one product down and one up, for each of the adapters in the batch alone."""
    made = tiny.model()
    runner = opened(made)
    for number in range(8):
        tiny.attach(runner, str(number), tiny.adapter(made, tmp_path / str(number), number, target_modules=["q_proj"]))
    counted: list[int] = []
    plain = torch.Tensor.addmm_

    def counting(self: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        counted.append(len(self))
        return plain(self, *args, **more)

    monkeypatch.setattr(torch.Tensor, "addmm_", counting)
    runner.logits([row(0, "1", 0.5), row(1, "1", 2.0), row(2, "1"), row(3, "4"), row(4, None)])
    assert counted == [3 * len(IDS), len(IDS)] * 2  # of the two layers


def test_strengths_hold_at_each_step_of_an_answer(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    runner = opened(made)
    tiny.attach(runner, "ft", folder)
    expected = {power: said(merged(made, folder, power)) for power in (-0.5, 2.0)}
    lanes = [(0, None, 1.0), (1, "ft", -0.5), (2, "ft", 2.0)]
    for start, stop in itertools.pairwise((0, 7, 8, 9, 20)):
        out = runner.logits([row(slot, name, power, IDS[start:stop], start) for slot, name, power in lanes])
        for i, power in ((1, -0.5), (2, 2.0)):
            close(out.view(3, stop - start, -1)[i], expected[power][start:stop])


def test_a_dora_row_is_refused_any_strength_but_its_own_and_none(tmp_path: Path) -> None:
    made = tiny.model()
    runner = opened(made)
    plain = runner.logits([row(0, None)])
    tiny.attach(runner, "ft", tiny.adapter(made, tmp_path, use_dora=True))
    with pytest.raises(EngineError, match="DoRA") as error:
        runner.logits([row(0, "ft", 0.5)])
    assert error.value.code == "strength_refused"
    assert torch.equal(runner.logits([row(0, "ft", 0.0)]), plain)
    assert not read("ft", AdapterFile.read(tmp_path)).scalable


def test_a_row_with_an_unknown_adapter_is_not_answered_by_the_base(tmp_path: Path) -> None:
    made = tiny.model()
    runner = opened(made)
    tiny.attach(runner, "ft", tiny.adapter(made, tmp_path))
    runner.detach("ft")
    for name in ("ft", "never"):
        with pytest.raises(EngineError, match=f"adapter {name} is not in memory"):
            runner.logits([row(0, name)])


# Tied matrices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("both", [False, True], ids=["apart", "ensure_weight_tying"])
@pytest.mark.parametrize("part", ["table", "head", "both"])
def test_tied_matrices_are_changed_as_they_were_trained(kind: str, both: bool, part: str, tmp_path: Path) -> None:
    """PEFT trains each of two tied modules by itself, unless ensure_weight_tying makes one change serve both. What its
    merge would give is another model: it adds the change of one of them to the matrix that they share."""
    made = tiny.model(kind, tie_word_embeddings=True)
    table = "embed_tokens" if kind == "llama" else "wte"
    targets = {"table": [table], "head": ["lm_head"], "both": [table, "lm_head"]}[part]
    trained = tiny.tuned(made, target_modules=targets, ensure_weight_tying=both)
    trained.save_pretrained(str(tmp_path))
    one = not both or (part, kind) == ("table", "gpt2")  # PEFT knows no other name of a table than embed_tokens
    assert len(read("ft", AdapterFile.read(tmp_path)).changes) == (1 if one and part != "both" else 2)
    runner: Any = opened(made)
    tiny.attach(runner, "ft", tmp_path)
    out = runner.logits([row(0, "ft"), row(1, None)]).view(2, len(IDS), -1)
    close(out[0], said(trained))
    close(out[1], said(made))
    assert runner.model.get_input_embeddings().weight is runner.model.get_output_embeddings().weight


def test_a_change_of_a_tied_head_leaves_the_embedding_alone(tmp_path: Path) -> None:
    made = tiny.model(tie_word_embeddings=True)
    runner: Any = opened(made)
    tiny.attach(runner, "ft", tiny.adapter(made, tmp_path, target_modules=["lm_head"]))
    seen: list[torch.Tensor] = []
    runner.model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    runner.logits([row(0, "ft"), row(1, None)])
    assert torch.equal(seen[0][0], seen[0][1])


def test_half_of_a_tied_change_is_refused(tmp_path: Path) -> None:
    made = tiny.model(tie_word_embeddings=True)
    folder = tiny.adapter(made, tmp_path, target_modules=["lm_head", "q_proj"], ensure_weight_tying=True)
    path = folder / "adapter_model.safetensors"
    whole = load_file(path)
    save_file({key: w for key, w in whole.items() if "lm_head" not in key}, path)
    with pytest.raises(EngineError, match="holds only one of them"):
        tiny.attach(opened(made), "ft", folder)
    head = "base_model.model.lm_head.lora_A.weight"
    save_file(whole | {head: whole[head] * 2}, path)
    with pytest.raises(EngineError, match="changes them apart"):
        tiny.attach(opened(made), "ft", folder)


# Base matrices in the file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_repeated_base_matrix_must_be_the_bases(dtype: torch.dtype, tmp_path: Path) -> None:
    """PEFT stores embeddings beside their changes, in whatever precision the adapter was saved."""
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path, target_modules=["embed_tokens", "lm_head"])
    path = folder / "adapter_model.safetensors"
    weights = {key: w.to(dtype) for key, w in load_file(path).items()}
    save_file(weights, path)
    runner = opened(made)
    tiny.attach(runner, "ft", folder)
    key = next(key for key in weights if key.endswith("embed_tokens.base_layer.weight"))
    weights[key][5, 5] += 1
    save_file(weights, path)
    with pytest.raises(EngineError, match=r"its own model\.embed_tokens, other than the base's"):
        tiny.attach(runner, "other", folder)


# Proof -------------------------------------------------------------------------------------------------------------


def test_a_row_without_adapter_is_bit_equal_to_the_plain_model(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path, target_modules=TARGETS["everything"])
    runner = opened(made)
    feeds = [proof.ask(slot, None, 0, IDS) for slot in range(4)]
    plain = runner.logits(feeds)
    tiny.attach(runner, "ft", folder)
    mixed = runner.logits([proof.ask(slot, "ft" if slot in (1, 2) else None, 0, IDS) for slot in range(4)])
    assert torch.equal(mixed[[0, 3]], plain[[0, 3]])
    assert not torch.isclose(mixed[[1, 2]], plain[[1, 2]]).all(1).any()
    runner.detach("ft")
    assert torch.equal(runner.logits(feeds), plain)


def test_an_adapter_is_proven_when_it_moves_logits_and_leaves_the_base_alone(tmp_path: Path) -> None:
    made = tiny.model()
    ready = tiny.engine(made, {"ft": tiny.adapter(made, tmp_path)})
    found = ready.models()[1].proof
    assert found is not None
    assert (found.state, found.base_bit_equal) == ("proven", True)
    assert found.max_delta > 0
    assert found.adapter_sha256 == ready.models()[1].sha256


def test_an_embedding_is_proven_by_the_ids_that_it_changes(tmp_path: Path) -> None:
    """A short training sees few words, and no other row of the table moves."""
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path, target_modules=["embed_tokens"])
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    key = next(key for key in weights if "lora_embedding_A" in key)
    rare = next(i for i in range(tiny.VOCABULARY) if i not in PROBE)
    weights[key] = torch.zeros_like(weights[key])
    weights[key][:, rare] = 1
    save_file(weights, path)
    runner = opened(made)
    ids = proof.probe_for(read("ft", AdapterFile.read(folder)), tiny.VOCABULARY)
    assert rare in ids
    plain = proof.mixed_pass(runner, None, ids)
    digest = tiny.attach(runner, "ft", folder).sha256
    assert proof.prove(runner, plain, "ft", digest, ids).state == "proven"


def test_a_proof_leaves_the_rows_that_run_alone(tmp_path: Path) -> None:
    for kind in ("llama", "mamba"):
        made = tiny.model(kind)
        options = {"target_modules": ["in_proj"]} if kind == "mamba" else {}
        folder = tiny.adapter(made, tmp_path / kind, **options)
        runner = opened(made, 2)
        expected = runner.logits([row(0, None), row(1, None)])[-1]
        for slot in (0, 1):
            runner.release(slot)
        runner.logits([row(0, None, ids=IDS[:-1]), row(1, None, ids=IDS[:-1])])
        plain = proof.mixed_pass(runner, None, PROBE)
        digest = tiny.attach(runner, "ft", folder).sha256
        assert proof.prove(runner, plain, "ft", digest, PROBE).state == "proven"
        rest = [row(slot, None, ids=IDS[-1:], start=len(IDS) - 1) for slot in (0, 1)]
        close(runner.logits(rest)[-1], expected)


def test_the_proof_fails_when_the_base_row_changes(tmp_path: Path) -> None:
    made = tiny.model()
    runner: Any = opened(made)
    plain = proof.mixed_pass(runner, None, PROBE)
    digest = tiny.attach(runner, "ft", tiny.adapter(made, tmp_path)).sha256
    runner.model.lm_head.weight[0, 0] += 1e-3  # as a careless merge into the base's weights would
    found = proof.prove(runner, plain, "ft", digest, PROBE)
    assert (found.state, found.base_bit_equal) == ("failed", False)


def test_the_proof_fails_when_nothing_differs(tmp_path: Path) -> None:
    made = tiny.model()
    runner = opened(made)
    plain = proof.mixed_pass(runner, None, PROBE)
    folder = tiny.adapter(made, tmp_path)
    path = folder / "adapter_model.safetensors"
    save_file({key: w * 1e-30 if "lora_B" in key else w for key, w in load_file(path).items()}, path)
    digest = tiny.attach(runner, "ft", folder).sha256
    assert proof.prove(runner, plain, "ft", digest, PROBE).state == "failed"


def test_the_proof_fails_and_stays_a_number_when_the_adapter_overflows(tmp_path: Path) -> None:
    made = tiny.model()
    runner = opened(made)
    plain = proof.mixed_pass(runner, None, PROBE)
    folder = tiny.adapter(made, tmp_path)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({key: w * 1e30 for key, w in weights.items()}, folder / "adapter_model.safetensors")
    digest = tiny.attach(runner, "ft", folder).sha256
    found = proof.prove(runner, plain, "ft", digest, PROBE)
    assert (found.state, found.base_bit_equal, found.max_delta) == ("failed", True, 0.0)
    assert "not finite" in found.detail


@pytest.mark.parametrize(
    "config",
    [
        peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
        peft.LoHaConfig(target_modules=["q_proj"]),
        peft.LoKrConfig(target_modules=["q_proj"]),
        peft.VeraConfig(target_modules=["q_proj"]),
        peft.OFTConfig(target_modules=["q_proj"], oft_block_size=8, r=0),
        peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]),
        peft.LoraConfig(target_modules=["q_proj"], bias="all"),
        peft.LoraConfig(target_modules=["q_proj"], trainable_token_indices=[1, 2]),
        peft.LoraConfig(target_modules=["q_proj"], layer_replication=[(0, 2), (1, 2)]),
    ],
    ids=lambda config: "-".join([config.peft_type.value, *(["variant"] if config.peft_type.value == "LORA" else [])]),
)
def test_what_else_peft_trains_is_refused_by_name(config: Any, tmp_path: Path) -> None:
    peft.get_peft_model(tiny.model(), config).save_pretrained(str(tmp_path))
    with pytest.raises(EngineError, match="refused") as error:
        AdapterFile.read(tmp_path)
    facts = json.loads((tmp_path / "adapter_config.json").read_text())
    named = [facts["peft_type"], "modules_to_save", "biases", "trainable_token_indices", "layer_replication"]
    assert error.value.code == "adapter_refused"
    assert any(name in error.value.message for name in named)
