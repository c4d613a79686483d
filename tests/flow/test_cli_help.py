"""The command tree: every verb explains itself with an example."""

from itertools import chain

import pytest
from cyclopts import App

from app.cli.command_tree import command_tree
from app.cli.root import run

GROUPS = {
    "users": ("create", "set", "raise", "list", "show", "disable", "enable", "delete"),
    "teams": (
        "create",
        "set",
        "list",
        "show",
        "models",
        "disable",
        "enable",
        "raise",
        "archive",
        "restore",
        "delete",
    ),
    "keys": ("create", "list", "raise", "revoke", "rotate", "set", "whose", "identify"),
    "catalog": ("check", "show"),
    "invitations": ("list", "revoke"),
    "import": ("litellm", "new-api"),
    "alerts": ("list", "create", "set", "delete"),
    "admin-keys": ("create", "list", "revoke", "whose"),
    "ledger": ("check", "export", "adjust", "import-bill", "rebuild"),
    "store": ("repair", "upgrade"),
    "webhooks": ("list", "redeliver", "secret"),
    "notices": ("list", "test"),
    "tasks": ("list", "show", "cancel"),
}
SINGLE = (
    "serve",
    "demo",
    "sandbox",
    "probe",
    "usage",
    "audit",
    "apply",
    "doctor",
    "invite",
    "backup",
    "restore",
    "migrate",
    "stop-spending",
    "resume",
)
VERBS = [*((verb,) for verb in SINGLE), *((g, v) for g, verbs in GROUPS.items() for v in verbs)]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_with_an_example(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*verb, "--help"])

    assert code == 0
    assert f"koi {' '.join(verb)}" in capsys.readouterr().out.split("Example:")[1]


def test_the_tree_holds_exactly_the_verbs_of_the_contract() -> None:
    tree = command_tree()

    def named(app: App) -> set[str]:
        return {name for name in app if not name.startswith("-")}

    assert named(tree) == {*SINGLE, *GROUPS}
    assert {group: named(tree[group]) for group in GROUPS} == {
        group: set(verbs) for group, verbs in GROUPS.items()
    }


@pytest.mark.parametrize("verb", [v for v in VERBS if v[0] not in ("serve", "demo", "sandbox")])
def test_every_verb_that_answers_takes_json(verb: tuple[str, ...]) -> None:
    tree = command_tree()
    app = tree[verb[0]] if len(verb) == 1 else tree[verb[0]][verb[1]]

    options = set(chain.from_iterable(a.names for a in app.assemble_argument_collection()))

    assert "--json" in options
