"""One entry of a queue on the bus."""

from dataclasses import dataclass

from models_backend.protocol import log


@dataclass(frozen=True)
class Entry:
    """The lanes of a run that share a base model. `part` names them, as in "0,1"; `owner` is whose run it is."""

    queue: str
    id: str
    run: str
    part: str
    owner: str = ""

    @property
    def base(self) -> str:
        return self.queue.removeprefix(log.queue_key(""))

    @property
    def lanes(self) -> list[int]:
        return [int(lane) for lane in self.part.split(",")]

    @property
    def queued_at(self) -> int:
        """Milliseconds of the bus, since 1970."""
        return int(self.id.partition("-")[0])
