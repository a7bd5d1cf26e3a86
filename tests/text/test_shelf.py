"""Adapters come and go while rows run: asked for, read beside them, proven, dropped, changed, gone."""

import copy
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from models_backend import registry
from models_backend.protocol.events import LaneDone, LaneFailed, LaneLoading, LaneStarted, LaneStopped, LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Variant
from models_backend.protocol.workers import ModelInfo
from models_backend.registry import Entry
from models_backend.text import shelf as shelves
from models_backend.text.adapter_file import AdapterFile
from models_backend.text.catalogue import Catalogue
from models_backend.text.contract import Backend, Request
from models_backend.text.engine import Engine
from models_backend.text.lora import Riders
from models_backend.text.modules import pick_runner
from models_backend.text.open import describe
from models_backend.text.shelf import Shelf

from . import tiny

IDS = [(i * 13) % tiny.VOCABULARY for i in range(12)]
FEW = Params(temperature=0.0, max_tokens=5)
LONG = Params(temperature=0.0, max_tokens=40)


def entry(folder: Path, name: str | None = None) -> Entry:
    return Entry(
        id=f"ft:tiny:{name or folder.name}",
        title=folder.name,
        description="",
        base=tiny.BASE,
        folder=folder,
        adapter=folder,
        licence="",
        context=None,
        sha256=None,
        card=None,
        stamp=registry.stamp(folder),
    )


class House:
    """An engine over a tiny model, a shelf with room for so many adapters, and the folders that they come from."""

    def __init__(
        self, home: Path, names: Sequence[str], room: float = 100, slots: int = 8, fill: bool = False, queue: int = 99
    ) -> None:
        self.home = home
        self.made = tiny.model()
        self.base = Entry(tiny.BASE, "", "", None, home, None, "", None, None, None)
        for seed, name in enumerate(names):
            self.write(name, seed)
        self.one = AdapterFile.read(home / names[0]).numbers * 4
        self.catalogue = Catalogue(self.base, [entry(home / name) for name in names])
        self.runner: Any = pick_runner(copy.deepcopy(self.made), Riders(), slots, tiny.CONTEXT)
        self.shelf = Shelf(self.runner, self.catalogue, int(self.one * room))
        if fill:
            self.shelf.fill()
        self.engine = Engine(
            [ModelInfo(tiny.BASE, tiny.BASE), *self.infos()],
            lambda note: Backend(tiny.Numbers(), self.runner, adapters=self.shelf),
            "w",
            slots,
            queue=queue,
        )
        self.engine.load()
        self.wake = threading.Event()
        self.changes: list[list[ModelInfo]] = []
        self.engine.listen(self.wake.set, lambda: self.changes.append(self.engine.models()))
        self.heard: dict[tuple[str, int], tiny.Heard] = {}

    def write(self, name: str, seed: int, **options: object) -> Path:
        return tiny.adapter(self.made, self.home / name, seed, **{"target_modules": ["q_proj", "v_proj"], **options})

    def infos(self) -> list[ModelInfo]:
        return [
            ModelInfo(one.id, one.title, base=tiny.BASE, sha256=one.sha256) for one in self.catalogue.entries.values()
        ]

    def look(self) -> None:
        """As the lookout does every few seconds."""
        there = [entry(folder) for folder in sorted(self.home.glob("*/"))]
        if self.catalogue.update(there):
            self.engine.know(self.infos())

    def step(self) -> None:
        self.wake.clear()
        if not self.engine.busy:
            assert self.wake.wait(30), "nothing is on its way, and somebody waits"
        tiny.listen(self.heard, self.engine.step())

    def ask(self, name: str | None, lane: int = 0, params: Params = FEW, run: str = "r", **more: Any) -> Request:
        model = tiny.BASE if name is None else f"ft:tiny:{name}"
        return Request(run, lane, model, tiny.prompt(*IDS), params, 1, **more)

    def answer(self, *requests: Request) -> list[tiny.Heard]:
        for request in requests:
            self.heard.pop((request.run, request.lane), None)
        self.engine.submit(*requests)
        self.until(lambda: all(self.ended(request.lane) for request in requests))
        return [self.heard[request.run, request.lane] for request in requests]

    def until(self, true: Callable[[], bool]) -> None:
        for _ in range(2000):
            if true():
                return
            self.step()
        raise AssertionError("it does not come to an end")

    def ended(self, lane: int) -> bool:
        heard = self.heard.get(("r", lane))
        return heard is not None and isinstance(heard.events[-1], LaneDone | LaneFailed | LaneStopped)

    def expected(self, name: str | None, strength: float = 1.0, count: int = 5) -> list[int]:
        """What transformers says of the model as PEFT merges it."""
        if name is None:
            return tiny.generated(self.made, IDS, count)
        tuned = peft.PeftModel.from_pretrained(copy.deepcopy(self.made), str(self.home / name))
        for module in tuned.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.set_scale("default", strength)
        return tiny.generated(tuned.merge_and_unload(), IDS, count)

    @property
    def here(self) -> set[str]:
        """The models whose adapters the runner has."""
        return {name.split("@")[0].removeprefix("ft:tiny:") for name in self.runner._riders.names}

    def info(self, name: str) -> ModelInfo:
        return next(one for one in self.engine.models() if one.id == f"ft:tiny:{name}")


class Gate:
    """Holds up the thread that reads weights, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        plain = shelves.read

        def read(*given: Any) -> Any:
            self.reached.set()
            assert self.opened.wait(30)
            return plain(*given)

        monkeypatch.setattr(shelves, "read", read)


def test_twenty_adapters_are_served_in_turn_where_there_is_room_for_three(tmp_path: Path) -> None:
    names = [f"a{n:02}" for n in range(20)]
    house = House(tmp_path, names, room=3)
    for name in names[:4]:
        [heard] = house.answer(house.ask(name))
        assert heard.ids == house.expected(name)
        assert len(house.here) <= 3
    heard = house.answer(*(house.ask(name, lane) for lane, name in enumerate(names)))
    assert all(isinstance(one.end, LaneDone) for one in heard)
    assert len({tuple(one.ids) for one in heard}) > 10
    for lane in (0, 13, 19):
        assert heard[lane].ids == house.expected(names[lane])
    assert len(house.here) <= 3


def test_the_least_recently_used_adapter_makes_room(tmp_path: Path) -> None:
    house = House(tmp_path, ["a", "b", "c", "d"], room=3)
    for name in ("a", "b", "c", "a", "d"):
        house.answer(house.ask(name))
    assert house.here == {"a", "c", "d"}
    assert [house.info(name).loaded for name in "abcd"] == [True, False, True, True]
    found = house.info("b").proof
    assert found is not None and found.state == "proven"  # what was proven stays so


def test_rows_go_on_while_an_adapter_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, ["a", "b"])
    house.answer(house.ask("a"))
    gate = Gate(monkeypatch)
    house.engine.submit(house.ask(None, 1, LONG), house.ask("a", 2, LONG), house.ask("b", 3))
    house.until(gate.reached.is_set)
    before = len(house.heard["r", 1].ids)
    for _ in range(10):
        house.step()
    assert len(house.heard["r", 1].ids) == before + 10  # one token in each step
    assert [type(event) for event in house.heard["r", 3].events] == [LaneLoading]
    gate.opened.set()
    house.until(lambda: all(house.ended(lane) for lane in (1, 2, 3)))
    assert house.heard["r", 1].ids == house.expected(None, count=40)
    assert house.heard["r", 2].ids == house.expected("a", count=40)
    assert house.heard["r", 3].ids == house.expected("b")


def test_bringing_an_adapter_adds_at_most_one_pass_to_a_step(tmp_path: Path) -> None:
    house = House(tmp_path, ["a"])
    passes: list[int] = []
    house.runner.model.register_forward_pre_hook(lambda module, given: passes.append(0))
    house.engine.submit(house.ask(None, 1, LONG), house.ask("a", 2))
    counts = []
    while not house.info("a").loaded:
        passes.clear()
        house.step()
        counts.append(len(passes))
    assert max(counts) == 2
    assert counts.count(2) == 4  # the base's probe, the adapter's, the test of its insight, and the lane's own prompt


def test_an_adapter_in_use_is_not_dropped(tmp_path: Path) -> None:
    house = House(tmp_path, ["a", "b"], room=1)
    house.engine.submit(house.ask("a", 0, LONG))
    house.until(lambda: ("r", 0) in house.heard and len(house.heard["r", 0].ids) > 3)
    house.engine.submit(house.ask("b", 1))
    house.until(lambda: house.ended(0))
    assert ("r", 1) in house.heard and not house.heard["r", 1].ids
    house.until(lambda: house.ended(1))
    assert house.heard["r", 0].ids == house.expected("a", count=40)
    assert house.heard["r", 1].ids == house.expected("b")
    assert house.here == {"b"}


def test_an_adapter_larger_than_the_budget_is_refused_with_the_name_of_the_setting(tmp_path: Path) -> None:
    house = House(tmp_path, ["a"], room=0.9, fill=True)
    failed, base = house.answer(house.ask("a"), house.ask(None, 1))
    assert isinstance(failed.end, LaneFailed)
    assert failed.end.error.code == "adapter_memory"
    assert "DIPTYCH_ADAPTER_MEMORY" in failed.end.error.message
    assert base.ids == house.expected(None)


def test_models_of_a_lane_that_do_not_fit_together_are_refused_by_name(tmp_path: Path) -> None:
    house = House(tmp_path, ["a", "b", "c"], room=2)
    shadows = (Variant("ft:tiny:b"), Variant("ft:tiny:c"))
    failed, beside = house.answer(house.ask("a", 0, shadows=shadows), house.ask("c", 1, LONG))
    assert isinstance(failed.end, LaneFailed)
    assert failed.end.error.code == "adapter_memory"
    assert all(f"ft:tiny:{name}" in failed.end.error.message for name in "abc")
    assert beside.ids == house.expected("c", count=40)
    [pair] = house.answer(house.ask("a", 2, shadows=shadows[:1]))
    assert pair.ids == house.expected("a")


def test_lanes_that_need_several_adapters_do_not_wait_for_each_other_for_ever(tmp_path: Path) -> None:
    house = House(tmp_path, ["a", "b", "c", "d"], room=2)
    pairs = ["ab", "cd", "bc", "da", "ac"]
    asked = [house.ask(own, lane, shadows=(Variant(f"ft:tiny:{other}"),)) for lane, (own, other) in enumerate(pairs)]
    heard = house.answer(*asked)
    assert [one.ids for one in heard] == [house.expected(own) for own, _ in pairs]


def test_a_damaged_adapter_is_refused_alone_and_read_again_when_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, ["good", "bad"])
    path = tmp_path / "bad" / "adapter_model.safetensors"
    sound = path.read_bytes()
    path.write_bytes(b"not weights")
    house.look()
    reads: list[Path] = []
    plain = AdapterFile.read
    monkeypatch.setattr(AdapterFile, "read", lambda folder: reads.append(folder) or plain(folder))
    for _ in range(2):
        bad, good = house.answer(house.ask("bad", 0), house.ask("good", 1))
        assert isinstance(bad.end, LaneFailed) and bad.end.error.code == "adapter_refused"
        assert good.ids == house.expected("good")
    assert reads == [tmp_path / "bad", tmp_path / "good"]  # what is known is not read again
    path.write_bytes(sound)
    house.look()
    [mended] = house.answer(house.ask("bad"))
    assert mended.ids == house.expected("bad")


def test_an_adapter_whose_proof_fails_is_refused_and_that_is_announced(tmp_path: Path) -> None:
    house = House(tmp_path, ["good", "faint"])
    path = tmp_path / "faint" / "adapter_model.safetensors"
    save_file({key: w * 1e-30 if "lora_B" in key else w for key, w in load_file(path).items()}, path)
    house.look()
    house.changes.clear()
    faint, good = house.answer(house.ask("faint", 0), house.ask("good", 1))
    assert isinstance(faint.end, LaneFailed) and faint.end.error.code == "proof_failed"
    assert good.ids == house.expected("good")
    assert house.here == {"good"}
    told = {info.title: info for info in house.changes[-1]}
    assert told["faint"].proof is not None and told["faint"].proof.state == "failed" and not told["faint"].loaded
    assert told["good"].proof is not None and told["good"].proof.state == "proven" and told["good"].loaded


def test_a_changed_adapter_is_loaded_anew_and_rows_end_with_what_they_began_with(tmp_path: Path) -> None:
    house = House(tmp_path, ["a"])
    old = house.expected("a", count=40)
    house.engine.submit(house.ask("a", 0, LONG))
    house.until(lambda: ("r", 0) in house.heard and len(house.heard["r", 0].ids) > 3)
    shutil.rmtree(tmp_path / "a")
    house.write("a", 77)
    house.look()
    house.engine.submit(house.ask("a", 1, LONG))
    house.until(lambda: house.ended(0) and house.ended(1))
    assert house.heard["r", 0].ids == old
    assert house.heard["r", 1].ids == house.expected("a", count=40) != old
    digests = [house.heard["r", lane].started.sha256 for lane in (0, 1)]
    assert digests[0] != digests[1] == house.info("a").sha256
    house.answer(house.ask(None, 2))
    assert len(house.runner._riders.names) == 1


def test_files_that_are_written_anew_with_the_same_bytes_stay_where_they_are(tmp_path: Path) -> None:
    house = House(tmp_path, ["a"])
    house.answer(house.ask("a"))
    names = set(house.runner._riders.names)
    path = tmp_path / "a" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes())
    house.look()
    [heard] = house.answer(house.ask("a"))
    assert heard.ids == house.expected("a")
    assert set(house.runner._riders.names) == names


def test_a_model_that_vanishes_is_withdrawn_once_no_row_uses_it(tmp_path: Path) -> None:
    house = House(tmp_path, ["a", "b"])
    expected = house.expected("a", count=40)
    house.engine.submit(house.ask("a", 0, LONG))
    house.until(lambda: ("r", 0) in house.heard and len(house.heard["r", 0].ids) > 3)
    shutil.rmtree(tmp_path / "a")
    house.look()
    house.step()
    assert "ft:tiny:a" in [info.id for info in house.engine.models()]
    house.until(lambda: house.ended(0))
    assert house.heard["r", 0].ids == expected
    assert [info.id for info in house.engine.models()] == [tiny.BASE, "ft:tiny:b"]
    assert [info.id for info in house.changes[-1]] == [tiny.BASE, "ft:tiny:b"]
    assert house.here == set()
    [late] = house.answer(house.ask("a", 1))
    assert isinstance(late.end, LaneFailed) and late.end.error.code == "model_not_found"


def test_a_folder_that_vanishes_while_it_is_read_fails_its_lane_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, ["a"])
    gate = Gate(monkeypatch)
    house.engine.submit(house.ask(None, 0, LONG), house.ask("a", 1))
    house.until(gate.reached.is_set)
    aside = tmp_path.parent / f"{tmp_path.name} aside"
    (tmp_path / "a").rename(aside)
    gate.opened.set()
    house.until(lambda: house.ended(0) and house.ended(1))
    failed = house.heard["r", 1].end
    assert isinstance(failed, LaneFailed) and "cannot be read" in failed.error.message
    assert house.heard["r", 0].ids == house.expected(None, count=40)
    aside.rename(tmp_path / "a")  # back before anybody looked: it was not the adapter's fault
    [heard] = house.answer(house.ask("a"))
    assert heard.ids == house.expected("a")


def test_a_new_folder_is_served_without_a_new_start(tmp_path: Path) -> None:
    house = House(tmp_path, ["a"])
    house.answer(house.ask("a"))
    house.write("b", 9)
    house.changes.clear()
    house.look()
    assert [info.id for info in house.changes[0]] == [tiny.BASE, "ft:tiny:a", "ft:tiny:b"]
    assert house.info("a").loaded and house.info("a").proof is not None
    assert house.info("b").context == house.info("a").context and not house.info("b").loaded
    [heard] = house.answer(house.ask("b"))
    assert heard.ids == house.expected("b")
    assert house.info("b").loaded


def test_a_lane_that_waits_for_its_adapter_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, ["a", "b"])
    gate = Gate(monkeypatch)
    house.engine.submit(house.ask("a", 0))
    house.until(lambda: house.shelf._job is not None and house.shelf._job.reading)
    assert gate.reached.wait(30)
    assert house.engine.waiting == 1
    house.engine.stop("r", 0)
    house.step()
    assert [type(event) for event in house.heard["r", 0].events] == [LaneLoading, LaneStopped]
    assert house.engine.waiting == 0 and not house.engine.busy
    gate.opened.set()
    [heard] = house.answer(house.ask("b", 1))
    assert heard.ids == house.expected("b")


def test_an_adapter_that_breaks_the_runner_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, ["a", "b"])
    plain = type(house.runner).attach

    def attach(self: Any, weights: Any) -> None:
        plain(self, weights)
        if ":a@" in weights.name:
            raise ZeroDivisionError("a strange layer")

    monkeypatch.setattr(type(house.runner), "attach", attach)
    bad, good, base = house.answer(house.ask("a", 0), house.ask("b", 1), house.ask(None, 2))
    assert isinstance(bad.end, LaneFailed) and "a strange layer" in bad.end.error.message
    assert (good.ids, base.ids) == (house.expected("b"), house.expected(None))
    assert house.here == {"b"}


def test_without_memory_for_an_adapter_its_lane_fails_and_the_next_one_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, ["a"])
    with monkeypatch.context() as short:
        short.setattr(type(house.runner), "prepare", lambda self, weights: torch.empty(1 << 60))
        failed, base = house.answer(house.ask("a", 0), house.ask(None, 1))
    assert isinstance(failed.end, LaneFailed) and failed.end.error.code == "out_of_memory"
    assert base.ids == house.expected(None)
    [heard] = house.answer(house.ask("a"))
    assert heard.ids == house.expected("a")


def test_what_is_there_at_the_start_is_brought_as_far_as_there_is_room_but_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    house = House(tmp_path / "home", ["a", "b", "c"], room=2, fill=True)
    assert house.here == {"a", "b"}
    assert [house.info(name).loaded for name in "abc"] == [True, True, False]
    step = tiny.adapter(house.made, tmp_path / "job" / "checkpoints" / "step-3", target_modules=["q_proj"])
    catalogue = Catalogue(house.base, [entry(step, "job:step-3")])
    runner: Any = pick_runner(tiny.model(), Riders(), 2, tiny.CONTEXT)
    Shelf(runner, catalogue, 1 << 30).fill()
    assert not runner._riders.names


# Strength through the engine -----------------------------------------------------------------------------------------


def test_lanes_of_one_adapter_at_several_strengths_answer_like_the_merged_models(tmp_path: Path) -> None:
    house = House(tmp_path, ["a", "b"])
    lanes = [("a", -0.5), (None, None), ("a", 2.0), ("a", None), ("b", 0.7), ("a", 0.0), ("a", 1.0)]
    heard = house.answer(*(house.ask(name, lane, strength=power) for lane, (name, power) in enumerate(lanes)))
    expected = [house.expected(name, 1.0 if power is None else power) for name, power in lanes]
    assert [one.ids for one in heard] == expected
    assert heard[5].ids == heard[1].ids and len({tuple(ids) for ids in expected}) == 5
    assert [one.started.strength for one in heard] == [-0.5, None, 2.0, 1.0, 0.7, 0.0, 1.0]


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 2.01, -0.51, 1e300])
def test_a_strength_out_of_bounds_is_refused_by_name(strength: float, tmp_path: Path) -> None:
    house = House(tmp_path, ["a"])
    [heard] = house.answer(house.ask("a", strength=strength))
    assert isinstance(heard.end, LaneFailed)
    assert (heard.end.error.code, heard.end.error.field) == ("strength_refused", "strength")


def test_a_strength_that_means_nothing_is_refused_with_the_reason(tmp_path: Path) -> None:
    house = House(tmp_path, ["a", "d"])
    shutil.rmtree(tmp_path / "d")
    house.write("d", 3, use_dora=True)
    (tmp_path / "config.json").write_text("{}")
    house.catalogue.update([entry(tmp_path / name) for name in "ad"])
    entries = [house.base, *house.catalogue.entries.values()]
    infos = [describe(Entry(**{**_facts(one), "folder": tmp_path}), 64) for one in entries]
    assert [("strength" in info.cannot) for info in infos] == [True, False, True]
    house.engine._infos._infos[tiny.BASE] = infos[0]
    house.engine.know(infos[1:])
    on_base, dora, shadow, trained = house.answer(
        house.ask(None, 0, strength=0.5),
        house.ask("d", 1, strength=0.5),
        house.ask("a", 2, shadows=(Variant("ft:tiny:d", 2.0),)),
        house.ask("d", 3, strength=1.0),
    )
    for heard, words in ((on_base, "base model"), (dora, "DoRA"), (shadow, "DoRA")):
        assert isinstance(heard.end, LaneFailed)
        assert heard.end.error.code == "strength_refused" and words in heard.end.error.message
    assert trained.ids == house.expected("d")


def _facts(one: Entry) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_a_lane_says_that_it_waits_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, ["a"])
    gate = Gate(monkeypatch)
    house.engine.submit(house.ask(None, 1, LONG), house.ask("a", 0))
    house.until(gate.reached.is_set)
    for _ in range(5):
        house.step()
    gate.opened.set()
    house.until(lambda: house.ended(0))
    kinds = [type(event) for event in house.heard["r", 0].events if not isinstance(event, LaneToken)]
    assert kinds == [LaneLoading, LaneStarted, LaneDone]


def test_no_more_lanes_wait_for_adapters_than_may_wait_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, ["a"], queue=3)
    gate = Gate(monkeypatch)
    house.engine.submit(*(house.ask("a", lane) for lane in range(5)))
    house.until(lambda: house.ended(3) and house.ended(4))
    for lane in (3, 4):
        failed = house.heard["r", lane].end
        assert isinstance(failed, LaneFailed) and failed.error.code == "queue_full"
    gate.opened.set()
    house.until(lambda: all(house.ended(lane) for lane in range(3)))
    assert all(house.heard["r", lane].ids == house.expected("a") for lane in range(3))
