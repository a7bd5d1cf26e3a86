import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_backend.registry import names
from models_backend.registry.errors import BadId


@pytest.mark.parametrize(
    "text",
    [
        "smollm2-135m-instruct",
        "HuggingFaceTB/SmolLM2-135M",
        "a.b_c-d",
        "ft:smollm2:tickets",
        "ft:a/b:c",
        "0",
        "ft:a:b:step-0",
        "ft:a/b:c:step-120",
    ],
)
def test_a_sound_id_is_written_as_it_was_read(text: str) -> None:
    assert str(names.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "../x", "a/../b", "a/b/c", "/etc/passwd", "a\\b", "a b", "a\n", "a\0", ".hidden", "-rf", "a--b",
        "a..b", "ä", "a" * 97, "owner/", "/name", "ft:", "ft:a", "ft:a:", "ft::b", "ft:../x:b", "ft:a:../b", "ft:a:b/c",
        "ft:a:b:c", "ft:a:b:", "ft:a:b:step-", "ft:a:b:step-01", "ft:a:b:step-1:step-2", "ft:a:b:../x", "a:b:step-1",
        "ft:a:b:step-1234567890",
        "http://x", "C:", "a:b", "%2e%2e", "~root", "$HOME",
    ],
)  # fmt: skip
def test_a_hostile_id_is_refused(text: str) -> None:
    with pytest.raises(BadId):
        names.parse(text)


@given(st.text(alphabet="ab./\\-:~\0 \n", max_size=20))
def test_whatever_passes_is_one_plain_folder_name(text: str) -> None:
    try:
        folder = names.parse(text).folder
    except BadId:
        return
    assert folder and folder[0] not in ".-~" and not set(folder) & set("/\\:\0\n ")


def test_two_ids_never_share_a_folder() -> None:
    assert names.parse("a/b").folder == "a--b"
    with pytest.raises(BadId):
        names.parse("a--b")


def test_a_refused_id_is_told_without_its_control_letters() -> None:
    with pytest.raises(BadId) as error:
        names.parse("\x1b[31mred" + "x" * 500)
    assert "\x1b" not in str(error.value) and len(str(error.value)) < 300
