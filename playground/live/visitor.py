"""Who is at the other end of a socket, asked anew every few seconds: rights that end, end here as well."""

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.http import parse_cookie

from playground.access.signin import person_of_session
from playground.errors import DatabaseBusy, NotSignedIn
from playground.models import User
from playground.runs import service
from playground.runs.database import in_database

CHECK_SECONDS = 5.0


@dataclass
class Visitor:
    """A person with a session, or somebody with the link of one shared run; `person` is None for a guest."""

    session_key: str | None
    share: str | None
    person: User | None = None
    shared_run: str | None = None
    checked: float = 0.0

    @classmethod
    def of(cls, scope: dict[str, Any]) -> "Visitor":
        cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
        share = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("share", [None])[0]
        return cls(parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME), share)

    async def check(self) -> None:
        """Look up who this is now. Raises NotSignedIn, or NotFound for a link that is not valid (any more)."""
        self.person = await in_database(person_of_session, self.session_key)
        if self.share is not None:
            self.shared_run = (await service.find_shared(self.person, self.share)).id
        elif self.person is None:
            raise NotSignedIn
        self.checked = time.monotonic()

    async def check_again(self) -> None:
        """The same if the last look was too long ago. A database that is locked ends nobody's stream."""
        if time.monotonic() - self.checked >= CHECK_SECONDS:
            try:
                await self.check()
            except DatabaseBusy:
                self.checked = time.monotonic()

    @property
    def reads_only(self) -> bool:
        return self.share is not None

    @property
    def key(self) -> str:
        """Whose sockets are counted together."""
        return f"person {self.person.pk}" if self.person is not None else f"link {self.share}"
