"""Options of the whole suite; long runs sit out unless they are asked for."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "kill -9 at random moments")
    group.addoption(
        "--chaos-minutes", type=float, default=None, help="run the long soaks, so long in all"
    )
    group.addoption(
        "--chaos-seed", type=int, default=None, help="draw the same calls and kills again"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--chaos-minutes") is not None:
        return
    long = [item for item in items if item.get_closest_marker("chaos") is not None]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
