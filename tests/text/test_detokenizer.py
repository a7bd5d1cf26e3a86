"""Ids to text: no half characters, and pieces that add up to the text of the whole."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

from models_backend.text.detokenizer import Detokenizer


def as_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def pieces(ids: Sequence[int]) -> list[str]:
    text = Detokenizer(as_bytes)
    return [*(text.push(i) for i in ids), text.flush()]


@given(st.text(max_size=30))
def test_a_character_appears_whole_with_its_last_byte(text: str) -> None:
    found = pieces(text.encode())
    assert "".join(found) == text
    borders = [len(text[:n].encode()) for n in range(len(text) + 1)]
    assert all(not piece or i + 1 in borders for i, piece in enumerate(found[:-1]))


@given(st.binary(max_size=40))
def test_pieces_add_up_to_the_text_of_the_whole_even_for_bytes_that_are_no_text(raw: bytes) -> None:
    assert "".join(pieces(raw)) == raw.decode(errors="replace")


def test_broken_bytes_do_not_hold_back_the_text_for_ever() -> None:
    text = Detokenizer(as_bytes)
    assert "".join(text.push(0xFF) for _ in range(50)) == "\ufffd" * 47


@given(st.text(max_size=12), st.integers(0, 60))
def test_going_on_from_any_id_gives_the_same_text(text: str, cut: int) -> None:
    ids = text.encode()
    whole, again = Detokenizer(as_bytes), Detokenizer(as_bytes)
    first = "".join(whole.push(i) for i in ids[:cut])
    rest = "".join(whole.push(i) for i in ids[cut:]) + whole.flush()
    for i in ids[:cut]:
        again.push(i)
    assert first + "".join(again.push(i) for i in ids[cut:]) + again.flush() == first + rest == text


@pytest.mark.parametrize("prepend", ["always", "never"])
def test_spaces_between_words_survive_a_tokenizer_that_drops_the_first_one(prepend: str) -> None:
    words = ["▁the", "▁quick", "er", "▁fox"]
    tokenizer = Tokenizer(BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    ids = [0, 1, 2, 3, 0, 0, 2]
    text = Detokenizer(lambda window: tokenizer.decode(list(window)))
    assert "".join([*(text.push(i) for i in ids), text.flush()]) == tokenizer.decode(ids)
