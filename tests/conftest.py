"""Fixtures shared by all rooms: simulated carriers that went through the whole pipeline once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from tests.server_profile import server_profile
from tollhouse.pipeline import DEMO_JOB, run_step
from tollhouse.postgres import EmbeddedServer
from tollhouse.settings import Settings, get_settings

# The same code is tried with the same examples, however slow the machine is and whatever else runs
# on it; `--hypothesis-profile=default` looks at others, and asks each to take less than 200 ms.
hypothesis.settings.load_profile("ci")


class _FileByFile(LoadFileScheduling):
    """A file is one worker's; those that share a carrier go to one, or each would make its own."""

    def _split_scope(self, nodeid: str) -> str:
        path = str(super()._split_scope(nodeid))
        shares = "carrier: Settings" in Path(path).read_text(encoding="utf-8")
        return "carriers" if shares else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """How the tests are dealt to the workers."""
    return _FileByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left alone with one at the end."""
    long = {item.path for item in items if "pipeline" in item.keywords}
    items.sort(key=lambda item: item.path not in long)


def run_job(settings: Settings) -> dict[str, dict[str, object]]:
    """Run the main job; returns each step's counts."""
    return {name: run_step(name, settings) for name in DEMO_JOB}


@pytest.fixture(autouse=True)
def _its_own_settings() -> None:
    """A test reads its environment, not that of the one before it."""
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def carrier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The demo carrier, 2,000 subscribers for a month, simulated, billed and closed."""
    yield from _billed(tmp_path_factory.mktemp("carrier"), subscribers=2000)


@pytest.fixture(scope="session")
def small_carrier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A carrier of 200 subscribers, simulated, billed and closed."""
    yield from _billed(tmp_path_factory.mktemp("small-carrier"), subscribers=200)


@pytest.fixture(scope="session")
def on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The carrier of `small_carrier` on the server profile, with a PostgreSQL started for it."""
    with server_profile(tmp_path_factory, "server-profile", subscribers=200) as settings:
        run_job(settings)
        yield settings


def _billed(home: Path, *, subscribers: int) -> Iterator[Settings]:
    settings = Settings(home=home, subscribers=subscribers)
    try:
        run_job(settings)
        yield settings
    finally:
        EmbeddedServer(home).remove()
