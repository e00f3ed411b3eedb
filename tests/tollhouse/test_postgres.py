"""The embedded PostgreSQL: starts, stops, and never finds another home's data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from tollhouse.postgres import EmbeddedServer, database_url
from tollhouse.settings import Settings


def test_a_server_starts_once_keeps_its_data_and_stops(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    server = EmbeddedServer(settings.home)
    try:
        url = database_url(settings, "kept")
        assert database_url(settings, "kept") == url
        with psycopg.connect(url) as connection:
            connection.execute("create table kept (number integer)")
        EmbeddedServer(settings.home).stop()
        assert not EmbeddedServer(settings.home).is_running()
        with psycopg.connect(database_url(settings, "kept")) as connection:
            assert connection.execute("select count(*) from kept").fetchone() == (0,)
    finally:
        EmbeddedServer(settings.home).remove()
    assert not server.data.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server may live outside its home")
def test_a_home_made_anew_does_not_find_the_former_ones_data(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    settings = Settings(home=closed / "home")
    database_url(settings, "former")
    former = EmbeddedServer(settings.home)
    try:
        assert not former.data.is_relative_to(settings.home)
        shutil.rmtree(settings.home)
        url = database_url(settings, "postgres")
        with psycopg.connect(url) as connection:
            found = connection.execute("select datname from pg_database").fetchall()
        assert ("former",) not in found
    finally:
        former.remove()
        EmbeddedServer(settings.home).remove()
