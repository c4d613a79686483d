"""The commands as cyclopts reads them; a module is loaded when its verb is typed."""

from collections.abc import Collection, Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from app.cli.errors import usage_error
from app.cli.overview import HELP, MODULES, VERBS, koi_version


class _PlainHelp:
    """The plain formatter of cyclopts, which is loaded when help is printed."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        self.__getattr__("__call__")(console, options, panel)

    def __getattr__(self, name: str) -> Any:
        from cyclopts.help import PlainFormatter  # noqa: PLC0415

        return getattr(PlainFormatter(), name)


def command_tree(named: Collection[str] = VERBS) -> App:
    """The verbs; those that are not `named` are a name and a summary, and their modules are not
    loaded."""
    tree = App(
        name="koi",
        help=HELP,
        help_format="plaintext",
        help_formatter=_PlainHelp(),
        version=koi_version,
        default_parameter=Parameter(negative=()),
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    for order, (verb, summary) in enumerate(VERBS.items()):
        path = MODULES.get(verb, f"app.cli.{verb}:{verb}")
        # A summary given here would replace the whole description in the verb's own help.
        tree.command(path, name=verb, help=None if verb in named else summary, sort_key=order)
    return tree


def execute(words: Sequence[str]) -> int:
    """Run one command; the exit code. Raises `CommandFailed`."""
    try:
        answer = command_tree(words)(words)
    except CycloptsError as error:
        command = " ".join(("koi", *(error.command_chain or ())))
        raise usage_error(f"{' '.join(str(error).split())} See: {command} --help") from None
    return answer if isinstance(answer, int) else 0
