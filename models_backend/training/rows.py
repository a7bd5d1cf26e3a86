"""Rows of training and held-out data: chats in the OpenAI fine-tuning format, one JSON object a line.

This room knows what a well-formed row is and where a file of them breaks. It knows nothing about tokens or models.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypedDict

ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class Row(TypedDict):
    """One example: the chat before the last message is the prompt, the last message (assistant) is the answer."""

    messages: list[Message]


class BadRow(ValueError):
    """A row that cannot be trained on. The text names the line and what is wrong with it."""


def read(path: Path) -> list[Row]:
    """Read a JSONL file of rows. Raises BadRow with the number of the first line that is not one."""
    rows: list[Row] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(parse(line, f"{path.name}, line {number}"))
    if not rows:
        raise BadRow(f"{path.name} has no rows: give one JSON object with a list of messages on each line.")
    return rows


def parse(line: str, where: str) -> Row:
    """Turn one line of JSON into a row. `where` names the line in the text of BadRow."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadRow(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        raise BadRow(f'{where}: needs a non-empty list "messages".')
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadRow(f"{where}: each message needs a role: {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str) or not message["content"]:
            raise BadRow(f'{where}: each message needs a text as "content".')
    if messages[-1]["role"] != "assistant" or len(messages) < 2:
        raise BadRow(f"{where}: the last message must be the assistant's answer to the messages before it.")
    return {"messages": messages}


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL, byte for byte the same for the same rows."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def chat(user: str, answer: str, system: str | None = None) -> Row:
    """A row of one question and its answer."""
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    return {"messages": [*messages, {"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


def prompt(row: Row) -> list[Message]:
    return row["messages"][:-1]


def answer(row: Row) -> str:
    return row["messages"][-1]["content"]


def questions(rows: Sequence[Row]) -> set[str]:
    """The last user texts, to show that two files share none."""
    return {row["messages"][-2]["content"] for row in rows}
