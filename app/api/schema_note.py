"""What the schema says of a value beside its type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class SchemaNote:
    """A description, and other keywords of JSON Schema. It does what pydantic's `Field` does in an
    annotation, but pydantic is loaded only when the schema is made."""

    description: str | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_json_schema__(
        self, core_schema: Any, build: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        described = {} if self.description is None else {"description": self.description}
        return {**build(core_schema), **self.keywords, **described}
