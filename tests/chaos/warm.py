"""What the forking process imports before its first fork, and keeps the collector away from."""

import gc
import importlib

for name in (
    "tests.chaos.mortal",
    "app.cli.gateway_start",
    "app.server.run",
    "uvloop",
    "stringprep",
):
    importlib.import_module(name)
gc.collect()
gc.freeze()
