"""Connects to the operational database and brings its tables up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from tollhouse.postgres import EmbeddedServer, operational_url
from tollhouse.settings import Profile, Settings

MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_025_001  # advisory lock: two processes may start at once

_engines: dict[str, sqlalchemy.Engine] = {}
_engines_guard = threading.Lock()


class Base(DeclarativeBase):
    """Base of all tables of the operational database."""


def engine(settings: Settings) -> sqlalchemy.Engine:
    """The engine of the operational database: one a process and database, made when needed."""
    with _engines_guard:
        is_embedded = settings.profile is Profile.embedded
        place = str(settings.home.resolve()) if is_embedded else str(settings.operational_url)
        if place in _engines and _is_up(settings):
            return _engines[place]
        url = sqlalchemy.make_url(operational_url(settings)).set(drivername="postgresql+psycopg")
        if place not in _engines or _engines[place].url != url:
            _engines[place] = sqlalchemy.create_engine(
                url,
                pool_pre_ping=True, pool_size=5, max_overflow=15,
                connect_args={"options": "-c timezone=UTC"},
            )  # fmt: skip
        return _engines[place]


def _is_up(settings: Settings) -> bool:
    """Whether the embedded server need not be started (asking it costs more than a query)."""
    if settings.profile is not Profile.embedded:
        return True
    return (EmbeddedServer(settings.home).data / "postmaster.pid").exists()


def session_factory(settings: Settings) -> sessionmaker[Session]:
    """Makes sessions of the operational database."""
    return sessionmaker(engine(settings), expire_on_commit=False)


@contextmanager
def transaction(settings: Settings) -> Iterator[Session]:
    """A session that commits at the end and rolls back on an error."""
    with session_factory(settings).begin() as session:
        yield session


@contextmanager
def driver_transaction(settings: Settings) -> Iterator[Any]:
    """A psycopg connection of the pool, for COPY: commits at the end, rolls back on an error."""
    connection = engine(settings).raw_connection()
    try:
        yield connection.driver_connection
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.close()


def upgrade(settings: Settings) -> None:
    """Bring the tables to the newest migration. Safe to call again; then it only looks."""
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    newest = ScriptDirectory.from_config(configuration).get_current_head()
    with engine(settings).begin() as connection:
        if _current_revision(connection) == newest:
            return
        connection.execute(
            sqlalchemy.text("select pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK}
        )
        if _current_revision(connection) != newest:
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")


def _current_revision(connection: sqlalchemy.Connection) -> str | None:
    if connection.scalar(sqlalchemy.text("select to_regclass('public.alembic_version')")) is None:
        return None
    found: str | None = connection.scalar(
        sqlalchemy.text("select version_num from public.alembic_version")
    )
    return found
