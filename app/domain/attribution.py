"""For whom and for what a request is made, as its caller says. It is told in reports and is never a
right: limits, keys and what somebody may see do not depend on it (decision 55)."""

from dataclasses import dataclass

OTHER = "(other)"
"""What the values of a user and month are counted as, beyond so many different ones."""
MAX_COUNTED = 1_000
"""Different values of a user and month that are told apart where the settings say nothing."""
MAX_TAG_CHARS = 64
MAX_NAME_CHARS = 128
RESERVED = frozenset({OTHER, "-"})
"""Words by which reports mean something else: `-` stands for no value."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """`end_user` is the caller's own name for whoever asked it, `project` what it sends as
    OpenAI-Project, `tag` a word of its choice. At least one is given; each is a `clean_value`."""

    project: str | None = None
    tag: str | None = None
    end_user: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """Those that are not None, by their name."""
        pairs = (("project", self.project), ("tag", self.tag), ("end_user", self.end_user))
        return {name: value for name, value in pairs if value is not None}


NOTHING_SAID = Attribution()
"""Of a request without any; nothing keeps it."""


def clean_value(text: str, max_chars: int) -> str | None:
    """The value without blanks around it; None when it is none: empty, too long, not printable,
    a list, or a word of our own."""
    value = text.strip(" ")
    if not 0 < len(value) <= max_chars or not value.isprintable():
        return None
    return None if "," in value or value in RESERVED else value
