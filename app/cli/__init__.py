"""The `koi` command: what an operator does, one module per verb."""

from app.cli.root import main

__all__ = ["main"]
