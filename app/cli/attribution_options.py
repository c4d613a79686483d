"""Whose, and what requests said for whom and what they were: filters of `koi usage` and
`koi tasks`."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from app.cli.options import ScopeOptions, parse_names


@dataclass(frozen=True, slots=True)
class AttributionFilter:
    """Empty sets let everything through; `-` lets through what said nothing."""

    projects: frozenset[str]
    tags: frozenset[str]
    end_users: frozenset[str]


@Parameter(name="*")
@dataclass(frozen=True)
class SourceOptions(ScopeOptions):
    """As typed, several with commas; nothing typed means everything."""

    tag: Annotated[str | None, Parameter(help="Only these tags (x-koi-tag); --tag=- is none.")] = (
        None
    )
    project: Annotated[str | None, Parameter(help="Only these projects (OpenAI-Project).")] = None
    end_user: Annotated[str | None, Parameter(help="Only these end users (user, Open WebUI).")] = (
        None
    )

    @property
    def said(self) -> AttributionFilter:
        return AttributionFilter(
            parse_names("--project", self.project),
            parse_names("--tag", self.tag),
            parse_names("--end-user", self.end_user),
        )
