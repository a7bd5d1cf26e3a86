"""A real GGUF of a few kilobytes, made on the spot, goes the way of the default model."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from models_backend.registry.errors import RefusedFormat
from models_backend.registry.progress import Progress
from models_backend.text.convert import convert

WIDTH, HIDDEN, HEADS, VOCABULARY = 64, 64, 2, 260
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """A llama of one layer with Q4_1 matrices, as the default model has them. Returns the values a reader must see."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_token_list(["<unk>", "<s>", "</s>", *alphabet, "ab"])
    writer.add_token_types([3, 3, 3] + [1] * (len(alphabet) + 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    dice, truth = np.random.default_rng(0), {}
    matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    for name in ["token_embd", *(f"blk.0.{matrix}" for matrix in matrices)]:
        rows = VOCABULARY if name == "token_embd" else WIDTH
        packed = gguf.quantize(dice.normal(size=(rows, WIDTH)).astype(np.float32), gguf.GGMLQuantizationType.Q4_1)
        truth[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return truth


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray], list[Progress]]:
    work = tmp_path_factory.mktemp("gguf")
    truth, seen = write_gguf(work / "tiny.gguf"), []
    convert(work / "tiny.gguf", work / "out", {"do_sample": True, "temperature": 0.2}, seen.append)
    return work / "out", truth, seen


def test_the_folder_loads_as_safetensors_with_every_value_as_the_gguf_has_it(converted) -> None:
    folder, truth, _ = converted
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    layer = model.model.layers[0]
    assert model.dtype == torch.float32 and not getattr(model.config, "quantization_config", None)
    assert np.array_equal(model.model.embed_tokens.weight.detach().numpy(), truth["token_embd"])
    assert np.array_equal(layer.mlp.down_proj.weight.detach().numpy(), truth["blk.0.ffn_down"])
    assert np.array_equal(layer.self_attn.v_proj.weight.detach().numpy(), truth["blk.0.attn_v"])


def test_half_precision_would_not_hold_these_values(converted) -> None:
    values = torch.tensor(converted[1]["token_embd"])
    assert not torch.equal(values.bfloat16().float(), values) and not torch.equal(values.half().float(), values)


def test_tokenizer_template_and_sampling_defaults_come_along(converted) -> None:
    folder, _, _ = converted
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer.encode("a cab", add_special_tokens=False)) == "a cab"
    assert tokenizer.chat_template == TEMPLATE and tokenizer.model_max_length == 128
    generation = json.loads((folder / "generation_config.json").read_text())
    assert (generation["temperature"], generation["do_sample"], generation["eos_token_id"]) == (0.2, True, 2)


def test_each_phase_is_told(converted) -> None:
    assert [(progress.done, progress.total) for progress in converted[2]] == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("content", [b"", b"PK" + bytes(100), b"GGUF" + bytes(2)])
def test_what_is_no_gguf_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(RefusedFormat, match=r"x\.gguf is not a sound GGUF file"):
        convert(tmp_path / "x.gguf", tmp_path / "out", {}, lambda progress: None)
