"""What workers tell of themselves: a heartbeat each second, and the models they can answer with."""

from typing import Any, Literal

from msgspec import Struct

HEARTBEAT_SECONDS = 1.0
DEAD_AFTER_SECONDS = 5


class Proof(Struct, frozen=True):
    """Evidence that a fine-tuned model is not its base, found when the adapter was loaded.

    `base_bit_equal`: a base row answers with the very bits it gives when no adapter is loaded. `max_delta`: the largest
    change of a logit on the probe prompts. `state` is "proven" only if the first holds and the second is above 0.
    """

    state: Literal["proven", "failed"]
    base_bit_equal: bool
    max_delta: float
    adapter_sha256: str
    detail: str


class ModelInfo(Struct, frozen=True):
    """A model that some worker serves. `base` is None for a base, whose queue is then its own id.

    `cannot` names what this model's engine does not do (a parameter, a kind of constraint as `constraint.regex`, or
    `shadows`, `strength`, `prefix`, `tools`, `continue_final`, `completion`: see `abilities.asked`), each with the
    reason in words; whoever asks for it is refused with that reason. `proof` among them says why there can be none.
    `precision` is that of the loaded weights. A remote model whose server is away is not `loaded`; its worker's `note`
    says why.
    """

    id: str
    title: str
    description: str = ""
    base: str | None = None
    kind: Literal["text"] = "text"
    context: int = 0  # tokens that prompt and answer share
    chat: bool = True  # has a chat template
    defaults: dict[str, Any] = {}  # sampling parameters from the model's generation config
    licence: str = ""
    sha256: str | None = None
    loaded: bool = False
    proof: Proof | None = None
    host: str = ""
    precision: str = ""
    cannot: dict[str, str] = {}

    @property
    def queue(self) -> str:
        return self.base or self.id


class Heartbeat(Struct, frozen=True):
    """A worker's word that it lives. Load is counted in lanes; `device` is empty until the default model is loaded."""

    worker: str
    host: str
    pid: int
    device: str
    engine: str
    models: tuple[str, ...]
    ready: bool  # the default model is in memory
    running: int
    waiting: int
    slots: int
    started_at: float
    at: float
    note: str = ""  # what it is doing while it is not ready
    cache_hits: int = 0  # prompt tokens that were not computed again, and
    cache_asked: int = 0  # all prompt tokens, since this worker started
