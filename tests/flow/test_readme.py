"""README's commands run as pasted: each one, in order, beside a real gateway and the sandbox."""

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import ROOT, Cli, generate, served_by
from tests.harness import quick_sandbox

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_OURS = ("make ", "export ")
"""Lines of the first steps that the fixture has done: the program is there, the key is set."""
RUNS_ALREADY = "koi serve"
SHELL = set("|&;<>$`*")
"""A line with one of these would need a shell, which no test should give a text."""


def blocks(heading: str) -> list[list[str]]:
    """The commands of each shell block below a heading, up to the next one."""
    _, found, rest = README.partition(f"\n{heading}\n")
    assert found, heading
    section = re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return [found.strip().splitlines() for found in BLOCK.findall(section)]


FIRST_STEPS = blocks("## Run it")[0]
AT_WORK, STOPPED, LOST = blocks("### Operate it")
BACKUP, RESTORE, _MIGRATE = blocks("### Back up, restore, move")


@dataclass
class Operator:
    """An operator who pastes lines, and puts what they saw in place of what only they can know:

    | in README | here |
    |---|---|
    | `key_…`, `task_…` | the latest key's id, the id of the one job |
    | `…3f9a` | the end of the latest key |
    | `fees.csv`, `people.toml` | the provider's bill and the example, in the operator's directory |
    """

    cli: Cli
    job: str = ""
    key: str = ""
    secret: str = ""
    pasted: list[str] = field(default_factory=list)

    def paste(self, line: str) -> str:
        said = self.cli.run(*self._words(line)).stdout
        self.pasted.append(line)
        if match := re.search(r"\bkey_[0-9a-z]+", said):
            self.key = match[0]
        if match := re.search(r"\bsk-koi-\S+", said):
            self.secret = match[0]
        return said

    def _words(self, line: str) -> list[str]:
        placeholders = {"key_…": self.key, "task_…": self.job, "…3f9a": self.secret[-4:]}
        name, *words = shlex.split(line, comments=True)
        assert name == "koi"
        assert not SHELL & set("".join(words)), line
        known = [placeholders.get(word, word) for word in words]
        assert all(known), line
        return known


@pytest.fixture
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def operator(provider: Sandbox, tmp_path: Path) -> Operator:
    return Operator(Cli(tmp_path, served_by(provider.url)))


def test_every_command_of_the_operators_section_runs_as_pasted(
    operator: Operator, provider: Sandbox
) -> None:
    with operator.cli.serving() as serving:
        operator.cli.settings["KOI_PORT"] = serving.url.rpartition(":")[2]
        for line in FIRST_STEPS:
            if not line.startswith(NOT_OURS) and RUNS_ALREADY not in line:
                operator.paste(line)
        answer = generate(serving.url, operator.secret)
        assert answer.status_code == 200
        operator.job = answer.headers["x-koi-task-id"]
        (operator.cli.path / "fees.csv").write_text(provider.fee_details())
        shutil.copy(ROOT / "deploy" / "people.toml", operator.cli.path)
        for line in (*AT_WORK, *BACKUP):
            operator.paste(line)
        assert serving.stop() == 0
    for line in STOPPED:
        operator.paste(line)
    shutil.rmtree(operator.cli.path / ".koi" / "store")
    for line in LOST:
        said = operator.paste(line)

    assert re.search(r"^difference +0$", said, re.MULTILINE)
    operator.cli.settings["KOI_DATA_DIR"] = str(operator.cli.path / "elsewhere")
    for line in RESTORE:
        said = operator.paste(line)

    assert re.search(r"^difference +0$", said, re.MULTILINE)
    assert len(operator.pasted) >= 20
    assert provider.billed_images == 1
