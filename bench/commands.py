"""Runs commands of `koi` in one process: each line read is a list of words, each line written what
the command printed. The imports, most of a command's time, are paid once."""

import contextlib
import io
import json
import sys

from app.cli import main


def run(words: list[str]) -> dict[str, object]:
    sys.argv = ["koi", *words]
    printed = io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return {"code": code, "printed": printed.getvalue()}


for line in sys.stdin:
    answer = run(json.loads(line))
    print(json.dumps(answer), flush=True)
