"""Stop strings: any way to cut a text into pieces gives the same answer."""

from hypothesis import given
from hypothesis import strategies as st

from models_backend.text.stops import StopStrings


def shown(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, bool]:
    found = StopStrings(stops)
    text = "".join(found.push(piece) for piece in pieces)
    return text + found.flush(), found.hit


def first_end(text: str, stops: tuple[str, ...]) -> str:
    """The plain definition: grow the text by a character until a stop string is complete, then cut that one off."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@given(
    st.lists(st.text("ab\n", max_size=4), max_size=8),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=4).map(tuple),
)
def test_any_cut_of_the_text_gives_the_same_answer(pieces: list[str], stops: tuple[str, ...]) -> None:
    whole = "".join(pieces)
    assert shown(pieces, stops) == shown(list(whole), stops) == shown([whole], stops)
    assert shown(pieces, stops)[0] == first_end(whole, stops)


def test_text_that_may_become_a_stop_string_is_held_back_and_let_go_when_it_does_not() -> None:
    found = StopStrings(("</end>",))
    assert found.push("hello </e") == "hello "
    assert found.push("arth> </en") == "</earth> "
    assert found.flush() == "</en"
    assert not found.hit


def test_nothing_is_shown_after_the_stop_string() -> None:
    found = StopStrings(("STOP",))
    assert found.push("go ST") == "go "
    assert found.push("OP now") == ""
    assert found.push("more") + found.flush() == ""
    assert found.hit
