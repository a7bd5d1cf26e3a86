"""The family of errors that services raise and doors translate, once each.

Every error has a `code` for programs, a text that tells a person what to do, and where it fits the `field` it is about.
Nothing here knows HTTP, sockets or templates, save that each error carries the HTTP status that fits it.
"""


class DiptychError(Exception):
    """Base of all errors that a person may see. Its text never holds a path, a trace or an address."""

    code = "error"
    status = 400
    default = "That did not work."

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        self.message = message or self.default
        self.field = field
        super().__init__(self.message)


class BadParameter(DiptychError):
    """A value was refused; `field` names it and the text says what is allowed."""

    code = "bad_parameter"

    def __init__(self, field: str | None, why: str) -> None:
        super().__init__(why, field=field)


class NotFound(DiptychError):
    """It is not there, or this person may not see it: the same answer for both."""

    code = "not_found"
    status = 404
    default = "There is nothing here that you can open. The link may be wrong, withdrawn or meant for somebody else."


class NotSignedIn(DiptychError):
    code = "not_signed_in"
    status = 401
    default = "Sign in first: open the address with the token that the server printed when it started."


class WrongToken(DiptychError):
    code = "wrong_token"
    status = 403
    default = (
        "This token is not valid, or it has been used already. "
        "Take the newest address that the server printed, or ask for a new invitation."
    )


class TooManyTries(DiptychError):
    code = "too_many_tries"
    status = 429
    default = "Too many wrong tokens. Wait a minute, then try again."


class ReadOnly(DiptychError):
    code = "read_only"
    status = 403
    default = "This is shared with you to read. Sign in and open it as your own draft to change or run it."


class Conflict(DiptychError):
    """Somebody else was first, or an id was used again for something else."""

    code = "conflict"
    status = 409
    default = "This has been changed in the meantime. Reload it, then try again."


class Expired(DiptychError):
    code = "expired"
    status = 409
    default = "The log of this run has expired, so no answer can be added to it. Run it again as a new run."


class Busy(DiptychError):
    code = "busy"
    status = 429
    default = "The server is busy. Try again in a moment."


class NoWorker(DiptychError):
    code = "no_worker"
    status = 503
    default = "No worker has said yet which models it serves. Wait until one has started, then try again."


class BusDown(DiptychError):
    code = "bus_down"
    status = 503
    default = "The connection to the bus is interrupted. Runs go on; the page catches up when it is back."


class DatabaseBusy(DiptychError):
    code = "database_busy"
    status = 503
    default = "The database does not answer. Nothing was saved; try again in a moment."
