"""Why the embedded store did not start; every message says what to do."""


class EmbeddedStoreError(Exception):
    """The embedded store cannot be used; the message is a sentence for the operator."""


class StoreNotFound(EmbeddedStoreError):
    """No server program on this machine."""


class EngineMismatch(EmbeddedStoreError):
    """The data was written by another or a newer engine than any found here."""


class StoreUnusable(EmbeddedStoreError):
    """The data directory cannot be written, or belongs to another user."""


class StampDamaged(StoreUnusable):
    """Nobody knows which engine wrote the data."""


class StoreNotStarted(EmbeddedStoreError):
    """The server exited, or did not answer, before it was ready."""
