"""The form of an answer that is one of some texts, for a model that has no tokenizer a library could follow."""

from collections.abc import Sequence

from .contract import EngineError


class ChoiceForm:
    """A contract.Form: the ids of one of `options`, then an `end`."""

    def __init__(self, options: Sequence[Sequence[int]], end: int) -> None:
        self._options = [list(option) for option in options]
        self._end = end

    def allowed(self, ids: Sequence[int]) -> bytes:
        following = self._following(ids)
        bits = bytearray(max(following) // 8 + 1)
        for token in following:
            bits[token >> 3] |= 1 << (token & 7)
        return bytes(bits)

    def complete(self, ids: Sequence[int]) -> bool:
        return self._following(ids) == {self._end}

    def _following(self, ids: Sequence[int]) -> set[int]:
        said = list(ids)
        fitting = [option for option in self._options if option[: len(said)] == said]
        if not fitting:
            message = f"prefix: id {said[-1]} at place {len(said) - 1} is not allowed there by the constraint."
            raise EngineError("constraint_broken", message, "prefix")
        return {option[len(said)] if len(option) > len(said) else self._end for option in fitting}
