"""Share links: every level for everybody, revoked, shared anew, and gone with what they shared."""

import pytest

from playground.errors import BadParameter, NotFound
from playground.presets import service, share
from playground.runs import records
from tests.conftest import BASE, spec_of

LEVELS = ("private", "signed_in", "anyone")


@pytest.fixture
def preset(alice):
    return service.create(alice, "p", "", spec_of("one"))


@pytest.fixture
def run(alice, client_id):
    import msgspec

    from models_backend.protocol.runs import RunSpec

    return records.create(alice, client_id(), msgspec.convert(spec_of("asked", (BASE,)), RunSpec), [BASE])


@pytest.fixture(params=["preset", "run"])
def shared(request, preset, run):
    """Kind and id of what is shared."""
    return request.param, (preset if request.param == "preset" else run).pk


def opens(token, person):
    try:
        share.open(token, person)
    except NotFound:
        return False
    return True


@pytest.mark.parametrize(
    ("level", "readers"),
    [
        ("private", {"alice"}),
        ("signed_in", {"alice", "bob", "charlie"}),
        ("anyone", {"alice", "bob", "charlie", "guest"}),
    ],
)
def test_the_level_decides_who_reads(alice, bob, charlie, shared, level, readers):
    token = share.share(alice, *shared, level).token
    people = {"alice": alice, "bob": bob, "charlie": charlie, "guest": None}
    assert {name for name, person in people.items() if opens(token, person)} == readers


def test_changing_the_level_keeps_the_address(alice, bob, shared):
    links = [share.share(alice, *shared, level) for level in (*LEVELS, *reversed(LEVELS))]
    assert len({link.token for link in links}) == 1
    assert share.current(alice, *shared).level == "private"
    assert not opens(links[0].token, bob)


def test_a_revoked_address_never_opens_again_even_when_shared_anew(alice, bob, shared):
    old = share.share(alice, *shared, "anyone").token
    for _ in range(2):
        share.revoke(alice, *shared)
    assert share.current(alice, *shared) is None
    new = share.share(alice, *shared, "anyone").token
    assert new != old
    assert (opens(old, bob), opens(old, alice), opens(new, bob)) == (False, False, True)


def test_only_the_owner_shares_looks_at_and_revokes(alice, bob, shared):
    share.share(alice, *shared, "signed_in")
    for act in (
        lambda: share.share(bob, *shared, "anyone"),
        lambda: share.revoke(bob, *shared),
        lambda: share.current(bob, *shared),
    ):
        with pytest.raises(NotFound):
            act()
    assert share.current(alice, *shared).level == "signed_in"


def test_a_link_gives_no_other_right(alice, bob, preset, run):
    share.share(alice, "preset", preset.id, "anyone")
    share.share(alice, "run", run.id, "anyone")
    for act in (
        lambda: service.open_version(bob, preset.id),
        lambda: service.save_version(bob, preset.id, spec_of()),
        lambda: service.delete(bob, preset.id),
    ):
        with pytest.raises(NotFound):
            act()


def test_a_link_to_a_preset_shows_its_newest_version_and_who_shares_it(alice, bob, preset):
    token = share.share(alice, "preset", preset.id, "anyone").token
    service.save_version(alice, preset.id, spec_of("two"))
    found = share.open(token, bob)
    assert (found.kind, found.preset_version.number, found.owner, found.mine) == ("preset", 2, alice, False)
    assert share.open(token, alice).mine is True
    copy = service.duplicate_version(bob, found.preset_version)
    assert service.open_version(bob, copy.id).spec.prompt.messages[0].content == "two"


def test_a_link_to_a_run_shows_the_run(bob, alice, run):
    token = share.share(alice, "run", run.id, "anyone").token
    found = share.open(token, bob)
    assert (found.kind, found.run, found.preset_version) == ("run", run, None)


def test_a_deleted_preset_is_gone_for_its_readers_until_it_is_restored(alice, bob, preset):
    token = share.share(alice, "preset", preset.id, "anyone").token
    service.delete(alice, preset.id)
    assert (opens(token, bob), opens(token, alice)) == (False, False)
    service.restore(alice, preset.id)
    assert opens(token, bob)


@pytest.mark.parametrize("token", ["", "x", "\x00", "../s", "a" * 500, "' OR 1=1 --"])
def test_addresses_that_are_none_open_nothing(alice, shared, token):
    share.share(alice, *shared, "anyone")
    assert not opens(token, None) and not opens(token, alice)


def test_levels_and_kinds_that_do_not_exist_are_refused(alice, preset):
    with pytest.raises(BadParameter, match="private, signed_in, anyone"):
        share.share(alice, "preset", preset.id, "public")
    with pytest.raises(BadParameter):
        share.share(alice, "user", str(alice.pk), "anyone")


def test_addresses_cannot_be_guessed(alice, preset, run):
    tokens = [share.share(alice, kind, thing.pk, "anyone").token for kind, thing in (("preset", preset), ("run", run))]
    assert all(len(token) == 32 for token in tokens) and tokens[0] != tokens[1]
    assert share.current(alice, "preset", preset.id).url == f"/s/{tokens[0]}"
