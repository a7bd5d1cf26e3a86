"""What an adapter's folder may hold, and what is refused of it, by name and before anything is changed."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models_backend.text import lora
from models_backend.text.adapter_file import AdapterFile
from models_backend.text.adapter_weights import read
from models_backend.text.contract import EngineError

from . import tiny


def load(made: torch.nn.Module, folder: Path) -> None:
    lora.prepare(made, read("ft", AdapterFile.read(folder)))


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
        case "endless pattern":
            config["alpha_pattern"] = {"(a+)+$": 2}
        case "pattern of nothing":
            config["alpha_pattern"] = {"q_proj": None}
        case "rank zero":
            config["r"] = 0
        case "rank true":
            config["r"] = True
        case "alpha of no number":
            config["lora_alpha"] = float("nan")
        case "invocation":
            config["alora_invocation_tokens"] = [1, 2]
        case "trained tokens":
            config["trainable_token_indices"] = [3]
        case "magnitude":
            weights[first.replace("lora_A.weight", "lora_magnitude_vector")] = torch.ones(3)
        case "twice":
            config["use_dora"] = True
            for name in ("lora_magnitude_vector", "lora_magnitude_vector.weight"):
                weights[first.replace("lora_A.weight", name)] = torch.ones(32)
        case "vocabulary":
            path = "base_model.model.model.embed_tokens.lora_embedding_%s"
            weights |= {path % "A": torch.ones(4, 500), path % "B": torch.ones(32, 4)}
        case "table as layer":
            path = "base_model.model.model.embed_tokens.lora_%s.weight"
            weights |= {path % "A": torch.ones(4, 211), path % "B": torch.ones(32, 4)}
        case "layer as table":
            path = "base_model.model.lm_head.lora_embedding_%s"
            weights |= {path % "A": torch.ones(4, 32), path % "B": torch.ones(211, 4)}
        case "both":
            path = first.replace("lora_A.weight", "lora_embedding_%s")
            weights |= {path % "A": torch.ones(4, 32), path % "B": torch.ones(32, 4)}
        case "own base":
            weights[first.replace("lora_A", "base_layer")] = torch.ones(32, 48)
        case "inputs":
            weights[first] = torch.ones(4, 33)
        case "wide":
            weights[first] = torch.full((4, 48), 1e300, dtype=torch.float64)
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
        ("dora", "has no DoRA magnitude"),
        ("saves a module", "modules_to_save"),
        ("pissa", "pissa"),
        ("bias", "biases"),
        ("rank pattern", "need [2, "),
        ("endless pattern", "no regular expressions"),
        ("pattern of nothing", "lora_alpha is None"),
        ("rank zero", "rank r is 0"),
        ("rank true", "rank r is True"),
        ("alpha of no number", "lora_alpha is nan"),
        ("invocation", "alora_invocation_tokens"),
        ("trained tokens", "trainable_token_indices"),
        ("magnitude", "a DoRA magnitude"),
        ("twice", "twice"),
        ("vocabulary", "[500, 32] inputs and outputs; this base has [211, 32]"),
        ("table as layer", "as a linear layer, but in this base that is a Embedding"),
        ("layer as table", "as an embedding table, but in this base that is a Linear"),
        ("both", "half of the pair"),
        ("own base", "other than the base's"),
        ("inputs", "are for [33, "),
        ("wide", "not finite"),
        ("future", "use_quantum"),
        ("kind", "not LOHA"),
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
        load(made, folder)
    assert refusal.value.code == "adapter_refused"
    assert words in refusal.value.message
    assert {name: type(module) for name, module in made.named_modules()} == before


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(EngineError, match="pickle"):
        load(made, folder)


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
    with pytest.raises(EngineError, match=r"not a sound safetensors file|no weights"):
        load(made, folder)


def test_a_tensor_that_lies_outside_the_file_is_refused(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    whole = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(whole[:-4])
    with pytest.raises(EngineError, match="does not lie inside the file"):
        load(made, folder)


def test_a_file_that_is_longer_than_its_weights_is_refused(tmp_path: Path) -> None:
    """However long it says it is: a sparse file may say anything."""
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path)
    with (folder / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(EngineError, match="do not fill it"):
        load(made, folder)


def test_one_place_in_the_file_is_not_read_for_many_tensors(tmp_path: Path) -> None:
    made = tiny.model()
    folder = tiny.adapter(made, tmp_path, target_modules=["q_proj"])
    raw = (folder / "adapter_model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    first = next(name for name in header if ".lora_A" in name)
    for name in header:
        if ".lora_A" in name:
            header[name] = header[first]
    said = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(said).to_bytes(8, "little") + said + raw[8 + length :])
    with pytest.raises(EngineError, match="do not fill it"):
        load(made, folder)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    folder = tiny.adapter(tiny.model(), tmp_path)
    file = AdapterFile.read(folder)
    with (folder / "adapter_model.safetensors").open("ab") as opened:
        opened.write(b"more")
    with pytest.raises(EngineError, match="changed while it was read"):
        read("ft", file)


def test_a_folder_that_is_gone_when_its_weights_are_wanted_is_an_error_in_words(tmp_path: Path) -> None:
    folder = tiny.adapter(tiny.model(), tmp_path / "ft")
    file = AdapterFile.read(folder)
    shutil.rmtree(folder)
    with pytest.raises(EngineError, match="cannot be read") as error:
        read("ft", file)
    assert error.value.code == "adapter_refused"


def test_the_digest_is_of_the_file(tmp_path: Path) -> None:
    folder = tiny.adapter(tiny.model(), tmp_path)
    expected = sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    weights = read("ft", AdapterFile.read(folder))
    assert weights.sha256 == expected
    assert weights.nbytes == AdapterFile.read(folder).numbers * 4


@given(st.binary(max_size=300))
def test_no_header_makes_the_reader_fall(noise: bytes) -> None:
    """Whatever it says, it is refused in words, or it is sound."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
        (folder / "adapter_model.safetensors").write_bytes(len(noise).to_bytes(8, "little") + noise)
        with pytest.raises(EngineError) as error:
            AdapterFile.read(folder)
        assert error.value.code == "adapter_refused"


PLAIN = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
)
FIELDS = st.sampled_from(["r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_dora", "bias"])


@given(st.dictionaries(FIELDS, JSON))
def test_no_config_makes_the_reader_fall(config: dict[str, object]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = "base_model.model.lm_head.lora_%s.weight"
        save_file({path % "A": torch.ones(4, 32), path % "B": torch.ones(211, 4)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
        try:
            assert AdapterFile.read(folder).modules["lm_head"].a.shape == (4, 32)
        except EngineError as error:
            assert error.code == "adapter_refused"
