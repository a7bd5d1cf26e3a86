"""The engine as a contestant: the times it tells are those of lanes that speak together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models_backend.bench import adapters, faithful, synthetic, weights
from models_backend.bench.engine import Contestant, jobs
from models_backend.bench.run import measure
from models_backend.bench.sample import of_streams
from models_backend.bench.texts import Prompts, known
from models_backend.config import Settings
from models_backend.protocol.workers import ModelInfo
from models_backend.text import fake
from models_backend.text.open import open_engines

MODEL = synthetic.name_of("tiny")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation whose one model has random weights."""
    place = tmp_path_factory.mktemp("home")
    synthetic.write("tiny", place, "float32")
    return place


@pytest.fixture
def quiet(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("DIPTYCH_HOME", str(home))
    monkeypatch.setenv("DIPTYCH_ENGINE", "torch")
    monkeypatch.setenv("DIPTYCH_PRECISION", "float32")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1" if "NUM" in name else "")  # what the contestant sets is taken back
    yield Settings()


def test_lanes_are_stopped_once_each_has_said_enough() -> None:
    engine = open_engines(Settings(engine="fake"), "bench")[fake.BASE]
    engine.load()
    reply = Contestant(engine).answer([0, 1, 0], ["one [[long]]", "two [[long]]", "three [[long]]"], 6)
    assert [len(times) for times in reply["streams"]] == [6, 6, 6]
    assert not engine.busy


def test_a_lane_that_ends_early_ends_the_round() -> None:
    engine = open_engines(Settings(engine="fake"), "bench")[fake.BASE]
    engine.load()
    reply = Contestant(engine).answer([0, 0], ["short", "[[long]]"], 5000)
    assert max(map(len, reply["streams"])) - min(map(len, reply["streams"])) < 3
    assert not engine.busy


def test_a_lane_that_fails_fails_the_job_and_leaves_nothing_behind() -> None:
    engine = open_engines(Settings(engine="fake"), "bench")[fake.BASE]
    engine.load()
    with pytest.raises(RuntimeError):
        Contestant(engine).answer([0, 0], ["[[fail]]", "[[long]]"], 50)
    assert not engine.busy


def test_stop_is_timed_to_the_end_of_all_lanes() -> None:
    engine = open_engines(Settings(engine="fake", fake_delay=1), "bench")[fake.BASE]
    engine.load()
    found = Contestant(engine).cancel([0, 1], ["[[long]]", "[[long]]"], 3)
    assert 0 <= found["ms"] <= found["worst_ms"]
    assert not engine.busy


def test_random_weights_answer_with_random_adapters(quiet: Settings, home: Path, tmp_path: Path) -> None:
    found = adapters.of(MODEL, home, 3, tmp_path)
    assert len({id for id, _ in found}) == 3
    jobs_ = jobs({"model": MODEL, "adapters": found})
    texts = [Prompts(home / "models" / MODEL).of(20, number) for number in (1, 2, 3)]
    reply = jobs_["answer"](rows=[0, 1, 2], texts=texts, tokens=4)
    assert of_streams(reply["began"], reply["streams"])["tokens_per_second"] > 0
    facts = jobs_["facts"]()
    assert facts["adapters"] == 3
    assert facts["device"] == "cpu"


def test_what_runs_is_compared_with_float32_in_both_ways_of_computing(quiet: Settings) -> None:
    found = faithful.compare(quiet, MODEL)
    assert found["read"]["kl"] < 1e-6 and found["decoded"]["kl"] < 1e-6
    assert found["read"]["top1"] == found["decoded"]["top1"] == 1.0
    assert found["positions"] > 100


def test_another_distribution_is_found_to_be_another() -> None:
    import torch

    expected = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    found = faithful.distance(expected, torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    assert found["top1"] == 0.5
    assert found["worst_kl"] == pytest.approx(2 * found["kl"])
    # Two outcomes with odds e and 1/e: KL = (p - q) * 1 for p = e / (1 + e), q = 1 - p.
    assert found["worst_kl"] == pytest.approx(2 * torch.sigmoid(torch.tensor(1.0)).item() - 1)


def test_the_weights_that_a_step_reads_are_counted_from_the_file(home: Path) -> None:
    hidden, layers, heads, shared, middle, vocabulary, _ = synthetic.SHAPES["tiny"]
    attention = hidden * (2 * hidden + 2 * hidden * shared // heads)
    expected = layers * (attention + 3 * hidden * middle + 2 * hidden) + vocabulary * hidden + hidden
    assert weights.parameters(home / "models" / MODEL) == expected


def test_packed_weights_are_counted_by_their_file(home: Path, tmp_path: Path) -> None:
    class Packed:
        def models(self) -> list[ModelInfo]:
            return [ModelInfo("m", "m", precision="4-bit")]

    assert weights.facts(Packed(), tmp_path) == {"weight_bytes": None}
    (tmp_path / "native.packed").write_bytes(b"x" * 123)
    assert weights.facts(Packed(), tmp_path) == {"weight_bytes": 123}


@pytest.mark.parametrize("raw", [b"", b"\xff" * 8, b"\x08\0\0\0\0\0\0\0nonsense", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_of_weights_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(raw)
    with pytest.raises(ValueError):
        weights.header(tmp_path / "a.safetensors")


def test_prompts_have_the_wanted_length_and_no_common_beginning(home: Path) -> None:
    prompts = Prompts(home / "models" / MODEL)
    first, second = prompts.of(200, 20_000_001), prompts.of(200, 20_000_002)
    ids = [prompts._tokenizer.encode(text).ids for text in (first, second)]
    assert all(abs(len(each) - 200) <= 2 for each in ids)
    assert ids[0][:12] != ids[1][:12]
    assert prompts.of(200, 20_000_001) == first


def test_the_texts_that_judge_precision_are_many_and_long_enough() -> None:
    assert len(known()) == 8
    assert min(len(text.split()) for text in known()) > 25


def test_the_whole_bench_runs_over_the_fake_engine(tmp_path: Path) -> None:
    settings = Settings(engine="fake", home=tmp_path)
    report = measure(settings, True, lambda text: None, peers=(), plan=(1, 4, 60.0))
    assert {"compare2_step", "one_after_other", "busy_machine", "cancel_ms"} <= set(report["ratios"])
    assert set(report["left_out"]) >= {"vs_transformers", "vs_llamacpp", "kl_default", "two processes"}
    assert report["facts"]["rounds"] == 1
    assert report["cases"]["engine, 16 lanes"]["tokens_per_second"] > 0
