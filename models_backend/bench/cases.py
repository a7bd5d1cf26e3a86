"""What is measured: each case, and who plays it. A case is played if its contestants are there."""

from collections.abc import Mapping, Sequence
from itertools import count

from models_backend.bench.process import Process
from models_backend.bench.ratios import ONE, PAIR
from models_backend.bench.rounds import Case, Play
from models_backend.bench.sample import Figures, first_ms, of_streams, together
from models_backend.bench.texts import SHORT, Prompts

WARM = 4  # tokens of each case before the first round
FEW = 3  # tokens after a prompt whose first one is what counts
WIDE = 16
APART = 3
TRIALS = 6  # presses of Stop in a round


class Stage:
    """The contestants that are there, by name, and the prompts they are given: new ones in each round."""

    def __init__(self, cast: Mapping[str, Process], prompts: Prompts, tokens: int) -> None:
        self.cast = cast
        self.tokens = tokens
        self._prompts = prompts
        self._numbers = count(1)

    def cases(self) -> list[Case]:
        return [case for who, case in self._all() if all(name in self.cast for name in who)]

    def settle(self) -> None:
        """Let the pair and the two processes answer alone, before their memory is looked at. Raises Lost, TooShort."""
        self._lanes("engine", [0, 1], same=True)(0, False)
        if {"one of two", "other of two"} <= set(self.cast):
            self._two()(0, False)

    def _all(self) -> list[tuple[tuple[str, ...], Case]]:
        engine, eight = ("engine",), ("eight",)
        return [
            (engine, Case(ONE, self._lanes("engine", [0]))),
            (("generate",), Case("generate(), 1 row", self._rows("generate", 1))),
            (("llamacpp",), Case("llama.cpp, 1 row", self._rows("llamacpp", 1))),
            (engine, Case("engine, 1 lane with an adapter", self._lanes("engine", [1]))),
            (engine, Case("engine, 2 lanes", self._lanes("engine", [0, 0], same=True))),
            (engine, Case(PAIR, self._lanes("engine", [0, 1], same=True))),
            (engine, Case("engine, 2 lanes with an adapter", self._lanes("engine", [1, 1], same=True))),
            (eight, Case("engine, 2 lanes, 2 of 8 adapters", self._lanes("eight", [1, 2], same=True))),
            (
                engine,
                Case(
                    "engine, base and adapter with shadows",
                    self._lanes("engine", [0, 1], same=True, shadows=[1, 0]),
                ),
            ),
            (eight, Case("engine, base and three adapters", self._lanes("eight", [0, 1, 2, 3], same=True))),
            (("peft",), Case("PEFT, base and adapter", self._mixed())),
            (("one of two", "other of two"), Case("two processes, a lane each", self._two())),
            (engine, Case("engine, 4 lanes", self._lanes("engine", [0] * 4))),
            (("generate",), Case("generate(), 4 rows", self._rows("generate", 4))),
            (("batching",), Case("continuous batching, 4 rows", self._rows("batching", 4))),
            (("serve",), Case("transformers serve, 4 streams", self._rows("serve", 4))),
            (("llamacpp",), Case("llama.cpp, 4 rows", self._rows("llamacpp", 4))),
            (engine, Case(f"engine, {WIDE} lanes", self._lanes("engine", [0] * WIDE))),
            (("generate",), Case(f"generate(), {WIDE} rows", self._rows("generate", WIDE))),
            (("batching",), Case(f"continuous batching, {WIDE} rows", self._rows("batching", WIDE))),
            (("llamacpp",), Case(f"llama.cpp, {WIDE} rows", self._rows("llamacpp", WIDE))),
            *(
                ((who,), Case(f"{name}, prompt of {length}", self._first(who, length), seldom=length > 1000))
                for length in (200, 2000)
                for who, name in (("engine", "engine"), ("generate", "generate()"), ("llamacpp", "llama.cpp"))
            ),
            (engine, Case("engine, Stop", self._cancel())),
            (("engine", "neighbour"), Case("engine, 1 lane beside a busy process", self._beside())),
            (("bandwidth",), Case("memory, read", self._read())),
        ]

    # How each kind of case is played --------------------------------------------------------------------------------

    def _lanes(self, who: str, rows: Sequence[int], same: bool = False, shadows: Sequence[int] = ()) -> Play:
        def play(number: int, warm: bool) -> Figures:
            texts = self._texts(SHORT, len(rows), same)
            tokens = WARM if warm else self.tokens
            reply = self.cast[who].ask("answer", rows=list(rows), texts=texts, tokens=tokens, shadows=list(shadows))
            return of_streams(reply["began"], reply["streams"])

        return play

    def _rows(self, who: str, rows: int) -> Play:
        def play(number: int, warm: bool) -> Figures:
            texts = self._texts(SHORT, rows, same=False)
            reply = self.cast[who].ask("answer", rows=rows, texts=texts, tokens=WARM if warm else self.tokens)
            return of_streams(reply["began"], reply["streams"])

        return play

    def _mixed(self) -> Play:
        def play(number: int, warm: bool) -> Figures:
            texts = self._texts(SHORT, 2, same=True)
            reply = self.cast["peft"].ask("answer", rows=[0, 1], texts=texts, tokens=WARM if warm else self.tokens)
            return of_streams(reply["began"], reply["streams"])

        return play

    def _two(self) -> Play:
        """Both at the same time, each with the base's weights: a merged model has as many, and the same shapes.

        They say more than the others, for the one that begins first would else have ended when the other begins.
        """

        def play(number: int, warm: bool) -> Figures:
            both = [self.cast["one of two"], self.cast["other of two"]]
            texts = self._texts(SHORT, 1, same=True)
            for one in both:
                one.begin("answer", rows=[0], texts=texts, tokens=WARM if warm else APART * self.tokens)
            began, streams = together([one.end() for one in both])
            return {} if warm else of_streams(began, streams)

        return play

    def _first(self, who: str, length: int) -> Play:
        def play(number: int, warm: bool) -> Figures:
            rows = [0] if who == "engine" else 1
            texts = self._texts(length, 1, same=True)
            reply = self.cast[who].ask("answer", rows=rows, texts=texts, tokens=FEW)
            return {"first_ms": first_ms(reply["began"], reply["streams"])}

        return play

    def _cancel(self) -> Play:
        def play(number: int, warm: bool) -> Figures:
            texts = self._texts(SHORT, 2, same=True)
            return dict(self.cast["engine"].ask("cancel", rows=[0, 1], texts=texts, trials=1 if warm else TRIALS))

        return play

    def _beside(self) -> Play:
        alone = self._lanes("engine", [0])

        def play(number: int, warm: bool) -> Figures:
            self.cast["neighbour"].resume()
            try:
                return alone(number, warm)
            finally:
                self.cast["neighbour"].pause()

        return play

    def _read(self) -> Play:
        return lambda number, warm: dict(self.cast["bandwidth"].ask("read"))

    def _texts(self, length: int, rows: int, same: bool) -> list[str]:
        """Prompts that nobody has seen before, in no case and no round: what is cached would be fast for free."""
        if same:
            return [self._prompts.of(length, next(self._numbers))] * rows
        return [self._prompts.of(length, next(self._numbers)) for _ in range(rows)]
