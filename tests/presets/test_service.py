"""Presets: saved, versioned, renamed, duplicated, deleted and brought back, each for who owns them alone."""

import threading
from datetime import timedelta

import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from models_backend.protocol.runs import RunSpec
from playground.errors import BadParameter, Conflict, NotFound
from playground.models import Preset, PresetVersion
from playground.presets import service
from tests.conftest import BASE, TUNED, spec_of

NOBODY = "00000000-0000-0000-0000-000000000000"


def spec(text="hello"):
    return spec_of(text, temperature=0.5)


def text_of(version):
    return version.spec.prompt.messages[0].content


def test_a_preset_is_saved_with_its_first_version(alice):
    preset = service.create(alice, "  Greeting \n short ", " says hello ", spec(), "first try")
    version = service.open_version(alice, preset.id)
    assert (preset.name, preset.description) == ("Greeting short", "says hello")
    assert (version.number, version.note, version.preset) == (1, "first try", preset)
    assert version.spec == msgspec.convert(spec(), RunSpec)


def test_each_save_is_a_version_and_old_ones_open_as_they_were(alice):
    preset = service.create(alice, "p", "", spec("one"))
    for number, text in ((2, "two"), (3, "three")):
        version = service.save_version(alice, preset.id, spec(text), f"note {number}", expected=number - 1)
        assert version.number == number
    assert [text_of(service.open_version(alice, preset.id, number)) for number in (1, 2, 3)] == ["one", "two", "three"]
    assert text_of(service.open_version(alice, preset.id)) == "three"
    assert [version.note for version in service.versions(alice, preset.id)] == ["note 3", "note 2", ""]
    with pytest.raises(NotFound):
        service.open_version(alice, preset.id, 4)


def test_who_saves_over_a_version_not_seen_is_told(alice):
    preset = service.create(alice, "p", "", spec("one"))
    service.save_version(alice, preset.id, spec("two"), expected=1)
    with pytest.raises(Conflict, match="Version 2"):
        service.save_version(alice, preset.id, spec("other"), expected=1)
    assert service.save_version(alice, preset.id, spec("on top"), expected=None).number == 3


def test_of_many_who_save_at_once_one_wins_and_the_others_are_told(alice):
    preset = service.create(alice, "p", "", spec("one"))
    outcomes = []

    def save(text):
        try:
            outcomes.append(service.save_version(alice, preset.id, spec(text), expected=1).number)
        except Conflict:
            outcomes.append("conflict")
        finally:
            connection.close()

    threads = [threading.Thread(target=save, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [2, "conflict", "conflict", "conflict"]


def test_renaming_keeps_versions_and_changes_what_search_finds(alice):
    preset = service.create(alice, "before", "", spec())
    service.rename(alice, preset.id, "ÄFTER", "with words")
    assert [p.name for p in service.listing(alice, "äfter WORDS")] == ["ÄFTER"]
    assert service.listing(alice, "before") == []
    assert service.open_version(alice, preset.id).number == 1


def test_a_duplicate_is_a_preset_of_its_own_from_any_version(alice):
    preset = service.create(alice, "p" * 120, "d", spec("one"))
    service.save_version(alice, preset.id, spec("two"))
    copy = service.duplicate(alice, preset.id, number=1)
    version = service.open_version(alice, copy.id)
    assert (text_of(version), version.number, copy.description) == ("one", 1, "d")
    assert copy.name.endswith(" (copy)") and len(copy.name) == 120
    service.delete(alice, preset.id)
    assert text_of(service.open_version(alice, copy.id)) == "one"


def test_deleting_can_be_undone_and_twice_is_once(alice):
    preset = service.create(alice, "p", "", spec())
    for _ in range(2):
        service.delete(alice, preset.id)
        assert service.listing(alice) == []
    for act in (
        lambda: service.open_version(alice, preset.id),
        lambda: service.save_version(alice, preset.id, spec()),
        lambda: service.rename(alice, preset.id, "x", ""),
        lambda: service.duplicate(alice, preset.id),
    ):
        with pytest.raises(NotFound):
            act()
    for _ in range(2):
        service.restore(alice, preset.id)
        assert [p.name for p in service.listing(alice)] == ["p"]


def test_what_was_deleted_long_ago_is_purged_and_nothing_else(alice):
    old, recent, kept = [service.create(alice, name, "", spec()) for name in ("old", "recent", "kept")]
    service.delete(alice, old.id)
    service.delete(alice, recent.id)
    long_ago = timezone.now() - timedelta(days=service.KEEP_DELETED_DAYS, seconds=1)
    Preset.objects.filter(pk=old.pk).update(deleted_at=long_ago)
    assert service.purge() == 1
    assert {preset.pk for preset in Preset.objects.all()} == {recent.pk, kept.pk}
    assert PresetVersion.objects.count() == 2


def test_the_list_is_last_changed_first_and_search_needs_all_words(alice):
    first = service.create(alice, "tickets to JSON", "support", spec())
    service.create(alice, "poem", "", spec())
    service.save_version(alice, first.id, spec("two"))
    assert [p.name for p in service.listing(alice)] == ["tickets to JSON", "poem"]
    assert [p.name for p in service.listing(alice, "json SUPPORT")] == ["tickets to JSON"]
    for nothing in ("json poem", "%", "_", "'; DROP TABLE", "\x00%"):
        assert service.listing(alice, nothing) == []


def test_nobody_reaches_the_presets_of_another(alice, bob):
    preset = service.create(alice, "mine", "", spec())
    for id_ in (preset.id, str(preset.id), NOBODY, "x", ""):
        for act in (
            lambda: service.open_version(bob, id_),  # noqa: B023
            lambda: service.versions(bob, id_),  # noqa: B023
            lambda: service.save_version(bob, id_, spec()),  # noqa: B023
            lambda: service.rename(bob, id_, "x", ""),  # noqa: B023
            lambda: service.duplicate(bob, id_),  # noqa: B023
            lambda: service.delete(bob, id_),  # noqa: B023
            lambda: service.restore(bob, id_),  # noqa: B023
        ):
            with pytest.raises(NotFound):
                act()
    assert service.listing(bob) == []
    assert service.open_version(alice, preset.id).number == 1


@pytest.mark.parametrize(
    ("name", "description", "note", "field"),
    [
        ("", "", "", "name"),
        (" \n ", "", "", "name"),
        ("x" * 121, "", "", "name"),
        ("a\x00b", "", "", "name"),
        ("a\u202eb", "", "", "name"),
        ("a", "d" * 2001, "", "description"),
        ("a", "\x00", "", "description"),
        ("a", "", "n" * 501, "note"),
    ],
)
def test_names_and_notes_are_bounded_and_can_be_shown(alice, name, description, note, field):
    with pytest.raises(BadParameter) as caught:
        service.create(alice, name, description, spec(), note)
    assert caught.value.field == field
    assert Preset.objects.count() == 0


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"prompt": 1},
        {**spec(), "extra": 1},
        {**spec(), "params": {"temperature": 9}},
        {**spec(), "lanes": []},
        {**spec(), "lanes": [{"model": BASE, "overrides": {"seed": -1}}]},
        {**spec(), "prompt": {"mode": "completion", "text": "\ud800"}},
        {**spec(), "prompt": {"mode": "chat", "messages": [{"role": "user", "content": "x" * 150_000}] * 2}},
    ],
)
def test_what_could_not_be_run_is_not_saved(alice, bad):
    with pytest.raises(BadParameter):
        service.create(alice, "p", "", bad)


def test_an_empty_prompt_may_be_saved_and_so_may_any_text(alice):
    for text in ("", "\x00\ue0ff<b>\u202e\U0001f44b"):
        preset = service.create(alice, "p", "", {**spec(text), "lanes": [{"model": TUNED}]})
        assert text_of(service.open_version(alice, preset.id)) == text


def test_the_number_of_presets_of_a_person_is_bounded(alice, bob, monkeypatch):
    monkeypatch.setattr(service, "MAX_PRESETS", 1)
    service.create(alice, "one", "", spec())
    with pytest.raises(BadParameter, match="Delete some"):
        service.create(alice, "two", "", spec())
    service.create(bob, "one", "", spec())
