"""From the parameters that are used to the rules of a row: what its draws obey, as ids that the model has."""

from array import array
from collections.abc import Iterable, Sequence

from models_backend.protocol.params import Used

from .contract import Dialect, EngineError, Rules


def rules_for(used: Used, dialect: Dialect, prompt: Sequence[int], vocabulary: int) -> Rules:
    """Raises EngineError, which names the parameter, where it asks for what this model does not have.

    Ids are arrays of 64-bit numbers, so that a step hands them to the device without a look at each.
    """
    _check("logit_bias", used.logit_bias, vocabulary)
    _check("stop_token_ids", used.stop_token_ids, vocabulary)
    banned, after = _banned(used.bad_words, dialect)
    return Rules(
        ends=dialect.eos.union(used.stop_token_ids),
        biases=(array("q", used.logit_bias), array("d", used.logit_bias.values())),
        banned=array("q", sorted(banned)),
        banned_after=after,
        seen=array("q", sorted(set(prompt))) if used.repetition_penalty != 1 else (),
        form=dialect.form(used.constraint) if used.constraint is not None else None,
    )


def _check(name: str, ids: Iterable[int], vocabulary: int) -> None:
    for token in ids:
        if token >= vocabulary:
            message = f"{name} names token {token}, but this model's tokens are numbered 0 to {vocabulary - 1}."
            raise EngineError("bad_parameter", message, name)


def _banned(words: Sequence[str], dialect: Dialect) -> tuple[set[int], dict[int, list[tuple[Sequence[int], int]]]]:
    """Ids that are never drawn; and by the id before, what must not be drawn behind which ids."""
    alone: set[int] = set()
    after: dict[int, list[tuple[Sequence[int], int]]] = {}
    for number, word in enumerate(words):
        spellings = dialect.spellings(word)
        if not spellings:
            message = f"bad_words[{number}] is nothing that this model could write, so it cannot be banned."
            raise EngineError("bad_parameter", message, f"bad_words[{number}]")
        for ids in spellings:
            if len(ids) == 1:
                alone.add(ids[0])
            else:
                after.setdefault(ids[-2], []).append((ids[:-1], ids[-1]))
    return alone, after
