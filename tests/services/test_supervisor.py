"""Starting, seeing and stopping services, with small stand-ins for the real ones."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from operational.identity import service as identity
from tollhouse.ports import free_port
from tollhouse.services import ServiceError, State, down, up
from tollhouse.services.processes import Program, read_records
from tollhouse.services.service import Service, answers, environment
from tollhouse.services.web import DEMO_USERS
from tollhouse.settings import Settings


def _service(
    folder: Path, *, name: str = "pages", code: str | None = None, preparation: str | None = None
) -> Service:
    """A service of one web server, or of a program of our own."""
    port = free_port()
    command = ["-m", "http.server", str(port), "--bind", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}"
    variables = dict(os.environ)
    return Service(
        name=name,
        title="页面 Pages",
        url=url,
        port=port,
        port_setting="TOLLHOUSE_WEB_PORT",
        programs=[
            Program(name, [sys.executable, *(["-c", code] if code else command)], variables, folder)
        ],
        is_healthy=lambda: answers(url),
        preparation=preparation
        and Program(f"{name}-prepare", [sys.executable, "-c", preparation], variables, folder),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    found = Settings(home=tmp_path)
    yield found
    down(found)


def test_up_answers_and_down_leaves_nothing(settings: Settings) -> None:
    service = _service(settings.home)
    (running,) = up(settings, services=[service])
    assert running.state is State.running
    assert running.address == service.url
    assert answers(service.url)
    down(settings)
    assert not answers(service.url)
    assert read_records(settings.home / "run") == {}
    assert not any(Path(f"/proc/{pid}").exists() for pid in running.pids)


def test_up_twice_starts_once(settings: Settings) -> None:
    service = _service(settings.home)
    (first,) = up(settings, services=[service])
    (second,) = up(settings, services=[service])
    assert first.pids == second.pids


def test_down_twice_is_harmless(settings: Settings) -> None:
    down(settings)
    down(settings)


def test_up_runs_the_preparation_before_the_service(settings: Settings) -> None:
    ready = settings.home / "ready.txt"
    service = _service(
        settings.home, preparation=f"import pathlib; pathlib.Path({str(ready)!r}).touch()"
    )
    up(settings, services=[service])
    assert ready.exists()


def test_a_port_in_use_is_said_with_the_setting_to_change(settings: Settings) -> None:
    service = _service(settings.home)
    with socket.socket() as other:
        other.bind(("127.0.0.1", service.port))
        other.listen()
        with pytest.raises(ServiceError, match=rf"{service.port}.*TOLLHOUSE_WEB_PORT"):
            up(settings, services=[service])
    assert read_records(settings.home / "run") == {}


def test_a_service_that_ends_at_once_shows_its_last_words(settings: Settings) -> None:
    service = _service(settings.home, code="raise SystemExit('the database is not there')")
    with pytest.raises(ServiceError, match="the database is not there"):
        up(settings, services=[service])


def test_a_failed_preparation_shows_its_last_words(settings: Settings) -> None:
    service = _service(settings.home, preparation="raise SystemExit('no tables')")
    with pytest.raises(ServiceError, match=r"preparation ended with code 1[^$]*no tables"):
        up(settings, services=[service])


def test_when_one_service_fails_none_is_left_running(settings: Settings) -> None:
    good = _service(settings.home, name="good")
    bad = _service(settings.home, name="bad", code="raise SystemExit('no')")
    with pytest.raises(ServiceError):
        up(settings, services=[good, bad])
    assert not answers(good.url)
    assert read_records(settings.home / "run") == {}


def test_the_users_told_of_the_web_module_are_those_it_makes() -> None:
    assert tuple(user.username for user in identity._DEMO_USERS) == DEMO_USERS


def test_programs_are_given_exactly_our_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLHOUSE_SUBSCRIBERS", "77")
    monkeypatch.setenv("TOLLHOUSE_DAYS", "3")
    given = {key: value for key, value in environment(settings).items() if "TOLLHOUSE_" in key}
    monkeypatch.delenv("TOLLHOUSE_SUBSCRIBERS")
    monkeypatch.delenv("TOLLHOUSE_DAYS")
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    assert Settings() == settings
