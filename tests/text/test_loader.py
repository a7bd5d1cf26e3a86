"""From a folder on disk to an engine that answers: what is read, what is refused, and what a refusal costs."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from models_backend.config import Settings
from models_backend.protocol.events import LaneDone, LaneFailed
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Chat, Completion, Message, Prompt
from models_backend.registry import Entry
from models_backend.text import loader
from models_backend.text.contract import EngineError, Request
from models_backend.text.engine import Engine
from models_backend.text.lora import LoraLayer
from models_backend.text.open import describe

from . import tiny

TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
HELLO = Chat((Message("system", "Be kind."), Message("user", "Hé 🌊")))
SETTINGS = Settings(device="cpu", slots=4, context=128)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Llama with a byte-level tokenizer that puts <s> before plain text, as Llama's own does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    bos = tokenizer.bos_token_id
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    made = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=bos,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    where = tmp_path / "base"
    made.save_pretrained(where)
    tokenizer.save_pretrained(where)
    facts = json.loads((where / "generation_config.json").read_text())
    (where / "generation_config.json").write_text(json.dumps(facts | {"temperature": 0.2, "top_p": 0.9, "top_k": 5000}))
    return where


def entry(folder: Path, **values: Any) -> Entry:
    facts = {"id": "base", "base": None, "folder": folder, "adapter": None, "sha256": None} | values
    return Entry(title=facts["id"], description="", licence="", context=None, card=None, **facts)


def tuned(folder: Path, tmp_path: Path, name: str = "ft", **options: Any) -> Entry:
    made = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return entry(folder, id=name, base="base", adapter=tiny.adapter(made, tmp_path / name, **options))


def engine(*entries: Entry) -> Engine:
    infos = [describe(one, SETTINGS.context) for one in entries]
    ready = Engine(infos, lambda note: loader.load(entries[0], list(entries[1:]), SETTINGS, note), "w", SETTINGS.slots)
    ready.load()
    return ready


def ask(prompt: Prompt, model: str = "base", lane: int = 0, **params: Any) -> Request:
    return Request("r", lane, model, prompt, Params(**{"max_tokens": 8, **params}), seed=1)


def test_base_and_adapter_answer_from_a_folder(folder: Path, tmp_path: Path) -> None:
    ready = engine(entry(folder), tuned(folder, tmp_path))
    base, ft = tiny.answer(ready, ask(HELLO, temperature=0.0), ask(HELLO, "ft", 1, temperature=0.0))
    assert base.ids != ft.ids
    assert [info.context for info in ready.models()] == [128, 128]
    assert ready.device == "cpu"


def test_the_models_own_defaults_hold_if_they_are_within_bounds(folder: Path) -> None:
    info = describe(entry(folder), 4096)
    assert info.defaults == {"temperature": 0.2, "top_p": 0.9}
    assert (info.context, info.chat) == (512, True)
    [heard] = tiny.answer(engine(entry(folder)), ask(HELLO))
    assert (heard.started.used.temperature, heard.started.used.top_p, heard.started.used.top_k) == (0.2, 0.9, 0)


def test_a_prompt_is_read_as_transformers_reads_it(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dialect = loader.load(entry(folder), [], SETTINGS, lambda note: None).dialect
    messages = [{"role": one.role, "content": one.content} for one in HELLO.messages]
    chat = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert dialect.encode(HELLO) == chat
    assert chat.count(tokenizer.bos_token_id) == 1
    assert dialect.encode(Completion("Hé")) == tokenizer("Hé").input_ids
    assert dialect.encode(Completion("Hé"))[0] == tokenizer.bos_token_id
    assert dialect.eos == {tokenizer.eos_token_id}
    assert dialect.decode([*dialect.encode(Completion("a  b 🌊 .")), tokenizer.eos_token_id]) == "a  b 🌊 ."


def test_a_model_without_a_template_answers_text_alone_and_says_so(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    ready = engine(entry(folder))
    assert not ready.models()[0].chat
    chat, text = tiny.answer(ready, ask(HELLO), ask(Completion("Once"), lane=1))
    assert isinstance(chat.end, LaneFailed)
    assert chat.end.error.code == "no_chat_template"
    assert "Completion" in chat.end.error.message
    assert isinstance(text.end, LaneDone)


def test_a_damaged_adapter_is_refused_and_the_others_serve(folder: Path, tmp_path: Path) -> None:
    good, bad, changed = (
        tuned(folder, tmp_path, "good"),
        tuned(folder, tmp_path, "bad"),
        tuned(folder, tmp_path, "changed"),
    )
    assert bad.adapter is not None
    (bad.adapter / "adapter_model.safetensors").write_bytes(b"not weights")
    lying = entry(folder, id="changed", base="base", adapter=changed.adapter, sha256="0" * 64)
    ready = engine(entry(folder), good, bad, lying)
    heard = tiny.answer(ready, *(ask(HELLO, info.id, lane) for lane, info in enumerate(ready.models())))
    assert [type(one.end) for one in heard] == [LaneDone, LaneDone, LaneFailed, LaneFailed]
    assert {one.end.error.code for one in heard[2:] if isinstance(one.end, LaneFailed)} == {"adapter_refused"}
    assert [info.loaded for info in ready.models()] == [True, True, False, False]


def test_an_adapter_whose_proof_fails_leaves_no_weights_behind(folder: Path, tmp_path: Path) -> None:
    made = tuned(folder, tmp_path)
    faint(made)
    backend = loader.load(
        entry(folder), [made], SETTINGS.model_copy(update={"precision": "float32"}), lambda note: None
    )
    assert backend.adapters is not None
    assert not backend.adapters.standing("ft").loaded
    layers = [module for module in backend.runner.model.modules() if isinstance(module, LoraLayer)]  # type: ignore[attr-defined]
    assert layers
    assert not any(layer.carries for layer in layers)


def faint(made: Entry) -> None:
    """Not zero, so the file passes, but too small for any float32 sum to notice."""
    assert made.adapter is not None
    path = made.adapter / "adapter_model.safetensors"
    save_file({key: w * 1e-30 if "lora_B" in key else w for key, w in load_file(path).items()}, path)


def test_weights_that_would_be_unpickled_are_not_loaded(folder: Path) -> None:
    import torch

    made = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(made.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(EngineError) as refusal:
        loader.load(entry(folder), [], SETTINGS, lambda note: None)
    assert refusal.value.code == "load_failed"


def test_code_that_lies_beside_the_weights_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(EngineError):
        loader.load(entry(folder), [], SETTINGS, lambda note: None)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_that_changes_nothing_is_never_shown_as_tuned(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tuned(folder, tmp_path)
    faint(made)
    with caplog.at_level(logging.WARNING):
        ready = engine(entry(folder), made)
    [heard] = tiny.answer(ready, ask(HELLO, "ft"))
    assert isinstance(heard.end, LaneFailed)
    assert heard.end.error.code == "proof_failed"
    found = ready.models()[1].proof
    assert found is not None
    assert (found.state, found.max_delta) == ("failed", 0.0)
    assert "ft is not served" in caplog.text


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match="DIPTYCH_DEVICE"):
        loader.pick_device("warp9")
