"""Cores, an agent and a rescue machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.places.agent import Core, RunningAgent, make_core, rescue_machine, two_disks_agent


@pytest.fixture
def source(make_core: Callable[[str], Core]) -> Core:
    return make_core("source-core")


@pytest.fixture
def target(make_core: Callable[[str], Core]) -> Core:
    return make_core("target-core")


@pytest.fixture(scope="session", name="make_core")
def _make_core(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Core]:
    folder = tmp_path_factory.mktemp("cores")
    made: dict[str, Core] = {}

    def make(name: str) -> Core:
        if name not in made:
            made[name] = make_core(folder / name, name)
        return made[name]

    return make


@pytest.fixture
def rescue(tmp_path: Path) -> Iterator[RunningAgent]:
    with rescue_machine(tmp_path / "rescue") as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with two_disks_agent(tmp_path / "agent") as running:
        yield running
