"""What the code must not even contain, and what the lock and the framework are held to.

S3, S4, S19, S53, S54 and S58, as far as reading the source can keep them.
"""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import create_app
from app.service.gateway import Gateway
from app.service.tasks import Tasks

APP = Path("app")
SERVED = ("api", "server", "service", "domain", "adapters", "wiring", "telemetry")
"""Rooms that a caller's words pass through."""
SOURCES = [file for room in SERVED for file in (APP / room).rglob("*.py")]
LUA = list(APP.rglob("*.lua"))


def calls(file: Path) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


@pytest.mark.parametrize("name", ["read", "follow", "list", "cancel", "picture", "delete_picture"])
def test_no_use_case_around_objects_works_without_saying_for_whom(name: str) -> None:
    """S19: an id alone fetches nothing; the caller comes first."""
    (_, first, *_) = inspect.signature(getattr(Tasks, name)).parameters.values()

    assert first.name == "principal"


def test_tasks_offers_nothing_else() -> None:
    offered = {name for name in vars(Tasks) if not name.startswith("_")}

    assert offered == {"read", "follow", "list", "cancel", "picture", "delete_picture"}


def test_a_job_is_read_by_id_only_where_its_owner_is_asked_for() -> None:
    """S19: every place that reads a job or a picture's owner, and why it may."""
    found = [
        (file.relative_to(APP).as_posix(), name.rpartition(".")[2], ast.unparse(node.args[0]))
        for file in SOURCES
        if file.parts[1] in ("api", "service")
        for node, name in calls(file)
        if re.fullmatch(r".*(ledger\.(job|find_owner|cancel|list_jobs)|listing\.list_page)", name)
    ]

    assert sorted(found) == [
        # Found in the caller's own cache pool, or under the caller's own key and body.
        ("service/cache_lookup.py", "job", "found.job_id or ''"),
        # Its user was asked for by `Tasks`, or it is an operator's.
        ("service/cancel_job.py", "cancel", "job.id"),
        ("service/cancel_job.py", "job", "job_id"),
        # Of a delivery that its owner's request, or one that was answered with the job, asked for.
        ("service/delivery_sender.py", "job", "delivery.job_id or ''"),
        ("service/generate.py", "job", "checked.duplicate_of"),
        # An operator's.
        ("service/job_search.py", "job", "end.job"),
        ("service/job_search.py", "job", "job_id"),
        ("service/job_story.py", "job", "job_id"),
        # What `Tasks` shows of it, it asks for the user of.
        ("service/shared_reads.py", "job", "job_id"),
        # Behind `_visible` and `_may_see_picture`, and by the caller's own name.
        ("service/tasks.py", "find_owner", "name"),
        ("service/tasks.py", "find_owner", "name"),
        # Found in the caller's own list.
        ("service/tasks.py", "job", "job.id"),
        ("service/tasks.py", "job", "task_id"),
        ("service/tasks.py", "list_page", "principal.user"),
        # The id came out of the completion of this very job.
        ("service/wait.py", "job", "job_id"),
    ]


def test_the_edge_reaches_no_ledger() -> None:
    """Routes see use cases, never a store: `Gateway` has no ledger to ask without an owner."""
    reached = [
        file.as_posix()
        for file in (APP / "api").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("ledger", "keyring", "store")
    ]

    assert reached == []
    assert not {"ledger", "keyring"} & set(Gateway.__dataclass_fields__)


RUNS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.loads",
        "marshal.loads", "yaml.load", "subprocess.run", "subprocess.Popen"}  # fmt: skip


def test_nothing_a_caller_sends_is_run_or_unpickled() -> None:
    strangers = [
        (file.as_posix(), name)
        for file in SOURCES
        for _, name in calls(file)
        if name in RUNS
        and file.parts[1:3] not in (("adapters", "embedded"), ("server", "worker.py"))
        and file != APP / "adapters" / "images" / "previews.py"  # our interpreter, our script
    ]

    assert strangers == []


def test_no_pattern_comes_from_a_caller() -> None:
    """S58: no KEYS or SCAN anywhere, one key is scanned without a pattern, and every regular
    expression is written down here."""
    for file in LUA:
        assert not re.search(r"'(KEYS|SCAN|SORT|MATCH)'", file.read_text()), file
        assert "loadstring" not in file.read_text()
    for file in SOURCES:
        for node, name in calls(file):
            where = f"{file}:{node.lineno}"
            assert not re.search(r"\.(h|s|z)?scan(_iter)?$|\.psubscribe$", name), where
            if name in ("re.compile", "re.match", "re.search", "re.fullmatch", "re.sub"):
                pattern = ast.unparse(node.args[0])
                assert isinstance(node.args[0], ast.Constant) or "re.escape" in pattern, where


def test_every_client_ignores_the_environment_and_no_check_is_off() -> None:
    """S2-S4: proxies, netrc, redirects, certificates."""
    text = "\n".join(file.read_text() for file in SOURCES)

    assert "trust_env=True" not in text
    assert not re.search(r"verify=False|CERT_NONE|check_hostname\s*=\s*False|ssl=False", text)
    assert not re.search(r"follow_redirects=True|allow_redirects=True", text)


def test_the_framework_tells_nobody_anything(tmp_path: Path) -> None:
    """S53: its telemetry stays off, also when its variable says otherwise."""
    environment = {**os.environ, "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
    script = (
        "from app.main import create_app; a = create_app();"
        "print(a._native_telemetry.enabled(), a.openapi_url, a.docs_url, a.redoc_url)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["False", "None", "None", "None"]
    assert create_app().debug is False


@pytest.mark.parametrize(
    "lock",
    [
        "requirements.lock",
        "requirements-s3.lock",
        "requirements-demo.lock",
        "requirements-dev.lock",
    ],
)
def test_everything_locked_has_its_version_and_its_hashes_and_comes_from_nowhere_else(
    lock: str,
) -> None:
    """S54: pip refuses what is not the very file that was tested."""
    text = Path(lock).read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())

    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]
    assert not re.search(r"https?://|--(extra-)?index\b|--find-links|git\+", text)


def test_templates_and_other_clients_are_not_even_installed() -> None:
    """S54: what is not there has no holes."""
    locked = re.findall(
        r"^([A-Za-z0-9._-]+)==", Path("requirements.lock").read_text(), re.MULTILINE
    )

    assert not {"multipart", "jinja2", "itsdangerous", "requests"} & set(locked)


def test_forms_are_parsed_in_one_place_and_never_by_the_framework() -> None:
    """S54: Starlette's own reader keeps files under names of its choice, without our bounds."""
    found = [
        file.relative_to(APP).as_posix()
        for file in SOURCES
        if "python_multipart" in (text := file.read_text()) or ".form(" in text
    ]

    assert found == ["api/form.py"]
