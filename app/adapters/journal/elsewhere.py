"""The `Journal` of a command whose changes the gateways write down: it keeps nothing here."""

from app.domain.journal import Mark, Step


class Elsewhere:
    """For a shared store with gateways at work: they copy what operators change (journals.py of the
    store), and a journal in whatever directory the command was run would be found by nobody."""

    mark: Mark | None = None

    def __init__(self) -> None:
        self.wrote = False
        """Whether anything that nobody may forget was changed."""

    def note(self, step: Step) -> None:
        """The store laid it out for the gateways."""
        self.wrote = self.wrote or any(change.seq for change in step.changes)

    def ready(self) -> bool:
        return True
