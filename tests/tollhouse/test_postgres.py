"""The embedded PostgreSQL: starts, stops, and never finds another home's data."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import psycopg
import pytest

from tollhouse.ports import check_port, free_port
from tollhouse.postgres import EmbeddedServer, PostgresError, database_url
from tollhouse.services.superset import serving_url
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse, publish_schema


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


def test_only_who_may_read_the_password_file_reaches_the_server(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    try:
        url = database_url(settings, "closed")
        kept = settings.home / "postgres.password"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        password = kept.read_text().strip()
        assert len(password) >= 32
        assert password in url
        for wrong in ("", ":guess"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(url.replace(f":{password}@", f"{wrong}@"))
        assert [path.name for path in settings.home.glob(".*password*")] == []
        kept.rename(tmp_path / "mislaid")
        with pytest.raises(PostgresError, match=r"postgres\.password is not there"):
            database_url(settings, "closed")
        (tmp_path / "mislaid").rename(kept)
    finally:
        EmbeddedServer(settings.home).remove()
    assert not kept.exists()


def test_the_reader_of_the_marts_signs_in_with_a_password_of_its_own(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    try:
        with open_warehouse(settings, "test") as warehouse:
            warehouse.execute("create table dm.figure as select 7 as value")
        publish_schema(settings, "dm")
        url = serving_url(settings).replace("+psycopg2", "").partition("?")[0]
        assert (settings.home / "postgres.password").read_text().strip() not in url
        with psycopg.connect(url) as reader:
            assert reader.execute("select value from dm.figure").fetchall() == [(7,)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("delete from dm.figure")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url.replace("bi_reader:", "bi_reader:x"))
    finally:
        EmbeddedServer(settings.home).remove()


def test_a_server_that_trusted_everybody_asks_for_a_password_from_its_next_start(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path / "home")
    try:
        database_url(settings, "kept")
        server = EmbeddedServer(settings.home)
        server.stop()
        rules = server.data / "pg_hba.conf"
        rules.write_text(rules.read_text().replace("scram-sha-256", "trust"))
        former = (settings.home / "postgres.password").read_text()
        (settings.home / "postgres.password").unlink()
        url = database_url(settings, "kept")
        assert former.strip() not in url
        psycopg.connect(url).close()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{server.port}/kept")
    finally:
        EmbeddedServer(settings.home).remove()


def test_a_server_whose_port_another_has_by_now_starts_on_another_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    try:
        database_url(settings, "kept")
        server = EmbeddedServer(settings.home)
        former = server.port
        server.stop()
        with socket.create_server(("127.0.0.1", former)):
            with psycopg.connect(database_url(settings, "kept")) as connection:
                assert connection.execute("select 1").fetchone() == (1,)
            assert server.port != former
    finally:
        EmbeddedServer(settings.home).remove()


def test_a_process_that_got_the_id_of_a_killed_server_is_not_taken_for_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    server = EmbeddedServer(settings.home)
    try:
        server.start()
        note = server.data / "postmaster.pid"
        killed = note.read_text()
        assert server.is_running()
        server.stop()
        note.write_text(killed.replace(killed.split()[0], str(os.getpid()), 1))
        assert not server.is_running()
        note.unlink()
    finally:
        server.remove()


def test_ports_given_are_free_and_not_of_those_that_connections_get() -> None:
    ports = {free_port() for _ in range(5)}
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert first < 2000 or max(ports) < first
    taken = ports.pop()
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(OSError, match="in use"):
        check_port(taken)


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
        EmbeddedServer(settings.home).remove()
        former.remove()
