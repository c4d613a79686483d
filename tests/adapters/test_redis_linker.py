"""A script is given the parts of the preludes that it uses, and runs as if it had them all."""

import re

import pytest

from app.adapters.redis.client.linker import constants_of, link, parts_of
from app.adapters.redis.client.scripts import load_scripts

PRELUDE = """-- Shared.
local LIMIT = 3  -- of anything
local later
local function used(n)
  return inner(n) .. '-- no comment'
end
local function inner(n) return n + LIMIT end
local function unused()
  return K.job
end
local TABLE = {
  unused = 1,
}
function later()
  return used(1)
end
start()
"""


def linked(body: str) -> str:
    constants = constants_of("local K={job='koi:{j}:',due='koi:due'}")
    return link(body, list(parts_of(PRELUDE, constants)), constants)


def test_a_script_is_given_what_it_uses_and_what_that_uses() -> None:
    text = linked("-- used, unused\nreturn used(2)\n")

    assert re.findall(r"^\S.*", text, re.MULTILINE) == [
        "local LIMIT = 3",
        "local function used(n)",
        "end",
        "local function inner(n) return n + LIMIT end",
        "start()",
        "return used(2)",
    ]
    assert "'-- no comment'" in text


def test_a_function_that_is_named_before_it_is_written_comes_whole() -> None:
    text = linked("return later()\n")

    assert text.startswith("local LIMIT = 3\nlocal later\nlocal function used(n)")
    assert "function later()\n  return used(1)\nend" in text


def test_a_field_and_a_word_in_a_text_use_nothing() -> None:
    assert "local" not in linked("return x.used, 'unused', 1 ..TABLE_2\n")


def test_keys_are_written_out_where_their_name_stands() -> None:
    assert linked("return K.job ..'x', K.due, K[noun], K.other\n").endswith(
        "return 'koi:{j}:' ..'x', 'koi:due', K[noun], K.other\n"
    )


@pytest.mark.parametrize("folder", ["ledger", "upstream", "cache"])
def test_no_script_names_what_it_was_not_given(folder: str) -> None:
    scripts = load_scripts(folder).values()
    functions = re.compile(r"function (\w+)")
    defined = {script.name: set(functions.findall(script.text)) for script in scripts}
    shared = set[str]().union(*defined.values())
    for script in scripts:
        code = re.sub(r"'[^'\n]*'", "", script.text)
        called = set(re.findall(r"(?<![\w.:])(\w+)\(", code)) & shared
        values = set(re.findall(r"(?<![\w.])[A-Z][A-Z_]+\b", code)) - {"ARGV", "KEYS"}
        given = " ".join(re.findall(r"^ *local .*", code, re.MULTILINE))
        assert called <= defined[script.name]
        assert values <= set(re.findall(r"\w+", given))
