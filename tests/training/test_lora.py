"""The trainer on a model of a few kilobytes: it learns, it repeats itself, and it touches nothing but the adapter."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from models_backend.training import lora, recipe
from models_backend.training.batches import collate, encode
from models_backend.training.evaluate import answers
from models_backend.training.lora import Step
from models_backend.training.recipe import Recipe
from models_backend.training.rows import chat
from tests.training import tiny

FILES = ("adapter_model.safetensors", "adapter_config.json")
ROWS = [chat(letter, "ab") for letter in "abcdefghijkl"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("base"))


def small(**changes: object) -> Recipe:
    plan = recipe.read("tickets")
    facts = {"rank": 8, "alpha": 16, "epochs": 15, "batch_rows": 6, "learning_rate": 0.02, "warmup": 0.1}
    return replace(plan, base="tiny", **(facts | changes))  # type: ignore[arg-type]


def train(base: Path, plan: Recipe) -> tuple[PeftModel, list[Step]]:
    steps: list[Step] = []
    return lora.train(plan, ROWS, base, steps.append), steps


def test_the_loss_falls_and_each_step_is_told(base: Path) -> None:
    _, steps = train(base, small())
    assert [step.number for step in steps] == list(range(1, 31)) and {step.steps for step in steps} == {30}
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert steps[-1].remaining == 0 and steps[0].remaining > 0


def test_the_same_recipe_gives_the_same_file_and_another_seed_another(base: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    files = []
    for number, seed in enumerate((1, 1, 2)):
        lora.save(train(base, small(seed=seed, epochs=1))[0], tmp_path / str(number))
        files.append(b"".join((tmp_path / str(number) / name).read_bytes() for name in FILES))
    assert files[0] == files[1] != files[2]
    assert torch.equal(state, torch.get_rng_state())  # nobody else's dice are touched


def test_a_saved_adapter_is_small_names_its_base_by_id_and_answers_as_trained(base: Path, tmp_path: Path) -> None:
    model, _ = train(base, small())
    lora.save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".md") == sorted(FILES)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny" and config["target_modules"] == sorted(config["target_modules"])
    plain, tok = lora.load(base)
    before = answers(plain, tok, ROWS, 4)
    loaded = PeftModel.from_pretrained(plain, tmp_path).eval()
    assert answers(loaded, tok, ROWS, 4) == [row["messages"][-1]["content"] for row in ROWS] != before
    with loaded.disable_adapter():
        assert answers(loaded, tok, ROWS, 4) == before


def test_answers_do_not_depend_on_who_else_is_in_the_batch(base: Path) -> None:
    plain, tok = lora.load(base)
    rows = [chat("x" * length, "-") for length in (30, 1, 12)]
    assert answers(plain, tok, rows, 5) == [answers(plain, tok, [row], 5)[0] for row in rows]


def test_the_loss_is_the_mean_over_answer_tokens_as_computed_without_padding_or_shortcuts(base: Path) -> None:
    plain, tok = lora.load(base)
    examples = encode([chat("hello you", "yes"), chat("x", "certainly")], tok, 200)
    losses, count = 0.0, 0
    for example in examples:
        ids = torch.tensor([example.ids])
        likely = plain(ids).logits.log_softmax(-1)[0]
        for at in range(len(example.ids) - example.answer, len(example.ids)):
            losses -= likely[at - 1, example.ids[at]].item()
            count += 1
    loss = lora.answer_loss(plain, collate(examples, tok.pad_token_id), "cpu").item()
    assert loss == pytest.approx(losses / count, rel=1e-5)


def test_the_rate_rises_to_its_peak_and_falls_to_a_tenth() -> None:
    plan = small(learning_rate=1.0, warmup=0.1)
    rates = [lora.learning_rate(plan, number, 100) for number in range(1, 101)]
    assert rates[:10] == pytest.approx([number / 10 for number in range(1, 11)])
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] == pytest.approx(0.1)


def test_whoever_watches_may_end_the_training(base: Path) -> None:
    class Enough(Exception):
        pass

    def stop(step: Step) -> None:
        if step.number == 3:
            raise Enough

    with pytest.raises(Enough):
        lora.train(small(), ROWS, base, stop)
