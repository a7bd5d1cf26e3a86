"""What can go wrong with models on disk. Each text is one sentence or two that say what to do."""


class RegistryError(Exception):
    """The family: a command prints its text and ends with 1, a worker sends it as the reason of a failed lane."""


class BadId(RegistryError):
    """An id that no model can have. Nothing on disk was looked at."""


class UnknownModel(RegistryError):
    """A well-formed id that names nothing here."""


class RefusedFormat(RegistryError):
    """Weights that would have to be unpickled, code that would have to be run, or a file that is not what it says."""


class ChecksumMismatch(RegistryError):
    """A file that is not the one that the registry, the hub or the manifest promised."""


class NotReachable(RegistryError):
    """A package index or hub did not answer, or not with the model."""


class NoSpace(RegistryError):
    """The disk is too full for the model."""
