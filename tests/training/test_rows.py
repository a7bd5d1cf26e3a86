from pathlib import Path

import pytest

from models_backend.training import rows
from models_backend.training.rows import BadRow


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = [rows.chat('hi\n"you" é', "yes", "be kind"), rows.chat("a", "b")]
    rows.write(tmp_path / "x.jsonl", made)
    assert rows.read(tmp_path / "x.jsonl") == made


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[]", "messages"),
        ('{"messages": []}', "non-empty"),
        ('{"messages": [{"role": "wizard", "content": "x"}]}', "role"),
        ('{"messages": [{"role": "user", "content": 5}]}', "content"),
        ('{"messages": [{"role": "user", "content": ""}]}', "content"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "last message"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "last message"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, why: str) -> None:
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    (tmp_path / "x.jsonl").write_text(f"{good}\n\n{line}\n")
    with pytest.raises(BadRow, match=rf"x\.jsonl, line 3.*{why}"):
        rows.read(tmp_path / "x.jsonl")


def test_an_empty_file_has_no_rows_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n")
    with pytest.raises(BadRow, match="has no rows"):
        rows.read(tmp_path / "x.jsonl")
