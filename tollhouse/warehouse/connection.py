"""A connection to the warehouse, whatever engine it runs on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from duckdb_extensions import import_extension
from sqlalchemy.engine import make_url

from tollhouse.settings import Profile, Settings
from tollhouse.warehouse.lock import reading_lock, writer_lock

if TYPE_CHECKING:
    import pandas as pd  # takes a second; only those who ask for frames need it

CATALOGUE = "warehouse"
ROWS_PER_BATCH = 50_000
EXTENSIONS = ("icu", "postgres_scanner")
EXTENSION_DIR = Path(sys.prefix) / "share" / "duckdb-extensions"
SCHEMAS = ("raw", "ods", "mediation", "billing", "settlement", "mid", "dm")


class EngineError(RuntimeError):
    """A database cannot be opened; the message says which and why."""


class Warehouse:
    """The open warehouse: SQL and Arrow in, frames out.

    `connection` is DuckDB's, with the warehouse as the current catalogue; table names are
    ``schema.table``.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Run one statement."""
        self.connection.execute(statement, list(parameters))

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query as tuples."""
        return self.connection.execute(query, list(parameters)).fetchall()

    def frame(self, query: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of a query as a data frame (decimals become floats: not for money)."""
        return self.connection.execute(query, list(parameters)).df()

    def arrow(self, query: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The result of a query as Arrow, decimals exact."""
        return self.connection.execute(query, list(parameters)).to_arrow_table()

    def batches(self, query: str) -> pa.RecordBatchReader:
        """The result of a query as a stream of Arrow batches: memory does not grow with it.

        No other statement may run on this warehouse until the stream is read.
        """
        return self.connection.execute(query).to_arrow_reader(ROWS_PER_BATCH)

    def table(self, table: str) -> pa.Table:
        """A whole table as Arrow, decimals exact."""
        return self.arrow(f"select * from {table}")  # noqa: S608

    def has_table(self, table: str) -> bool:
        """Whether the table or view ``schema.table`` is there."""
        schema, _, name = table.partition(".")
        return bool(
            self.rows(
                "select 1 from information_schema.tables"
                " where table_catalog = ? and table_schema = ? and table_name = ?",
                [CATALOGUE, schema, name],
            )
        )

    def create_table(self, table: str, columns: Mapping[str, str]) -> None:
        """Make ``schema.table`` with these columns and SQL types if it is not there."""
        body = ", ".join(f"{name} {sql_type}" for name, sql_type in columns.items())
        self.execute(f"create table if not exists {table} ({body})")

    def drop_column(self, table: str, column: str) -> None:
        """Delete a column, and the views that read it where the engine does not let them be."""
        statement = f'alter table {table} drop column "{column}" cascade'
        ((kind,),) = self.rows(
            "select type from duckdb_databases() where database_name = ?", [CATALOGUE]
        )
        if kind != "postgres":
            self.execute(statement)
            return
        # DuckDB does not pass `cascade` on.
        self.execute("call postgres_execute(?, ?)", [CATALOGUE, statement])
        self.execute("call pg_clear_cache()")

    def append(self, table: str, rows: pa.Table) -> None:
        """Add Arrow rows to a table; columns are matched by name, missing ones stay null."""
        names = ", ".join(rows.column_names)
        self.connection.register("_arrow_rows", rows)
        try:
            self.execute(f"insert into {table} ({names}) select {names} from _arrow_rows")  # noqa: S608
        finally:
            self.connection.unregister("_arrow_rows")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside take effect together, or none does."""
        self.execute("begin transaction")
        try:
            yield
        except BaseException:
            self.execute("rollback")
            raise
        self.execute("commit")


@contextlib.contextmanager
def open_warehouse(settings: Settings, purpose: str, wait_s: float = 0.0) -> Iterator[Warehouse]:
    """Open the warehouse for writing, holding the writer's lock while it is open.

    Args:
        settings: says which engine and where.
        purpose: what for, in a few words: shown to whoever finds the warehouse busy.
        wait_s: how long to wait for another writer to end.

    Raises:
        WarehouseBusyError: another process writes.
    """
    with writer_lock(settings, purpose, wait_s), connect_engine() as connection:
        connection.execute(f"set threads = {settings.threads}")
        connection.execute(f"set memory_limit = '{settings.memory}'")
        connection.execute(f"set temp_directory = '{settings.home.absolute()}/spill'")
        if settings.profile is Profile.embedded:
            settings.warehouse_file.parent.mkdir(parents=True, exist_ok=True)
            # A file of an older version becomes one of this version.
            connection.execute(
                f"attach '{settings.warehouse_file}' as {CATALOGUE} (storage_version 'latest')"
            )
        else:
            attach_postgres(connection, settings.warehouse_url or "", CATALOGUE)
        for schema in SCHEMAS:
            connection.execute(f"create schema if not exists {CATALOGUE}.{schema}")
        connection.execute(f"use {CATALOGUE}.raw")
        if settings.profile is Profile.embedded:
            refresh_raw_view(connection, settings.raw_dir)
        yield Warehouse(connection)


@contextlib.contextmanager
def read_warehouse(settings: Settings, wait_s: float = 0.0) -> Iterator[Warehouse]:
    """Open the warehouse for reading; writers wait until it is closed, so be brief.

    Raises:
        WarehouseBusyError: another process writes.
        EngineError: there is no warehouse yet.
    """
    with reading_lock(settings, wait_s), connect_engine() as connection:
        connection.execute(f"set threads = {settings.threads}")
        connection.execute(f"set memory_limit = '{settings.memory}'")
        if settings.profile is Profile.embedded:
            _attach_file(connection, settings.warehouse_file)
        else:
            attach_postgres(connection, settings.warehouse_url or "", CATALOGUE, read_only=True)
            connection.execute(f"use {CATALOGUE}.raw")
        yield Warehouse(connection)


@contextlib.contextmanager
def read_published_copy(settings: Settings) -> Iterator[Warehouse]:
    """Open the copy that `publish` made last, which no writer holds. Embedded profile only.

    Raises:
        EngineError: nothing was published yet.
    """
    with connect_engine() as connection:
        connection.execute(f"set threads = {settings.threads}")
        connection.execute(f"set memory_limit = '{settings.memory}'")
        _attach_file(connection, settings.analyst_file)
        yield Warehouse(connection)


def _attach_file(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    if not file.exists():
        raise EngineError(f"there is no {file} yet: run the steps up to `publish` first")
    quoted = str(file).replace("'", "''")
    connection.execute(f"attach '{quoted}' as {CATALOGUE} (read_only)")
    connection.execute(f"use {CATALOGUE}")


def refresh_raw_view(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Make the view ``raw.usage_record`` of the embedded warehouse read the parts below `folder`.

    It finds parts by their place: a new part needs no new view, a home that was moved does. Without
    the empty part that gives the columns (see `raw_parts`) there is no view.
    """
    schemas = sorted(folder.glob("_batch_id=0/*.parquet"))
    if not schemas:
        return
    quoted = str(folder.absolute()).replace("'", "''")
    # Parts of former columns lack some: only then is every part looked into for what it has.
    by_name = ", union_by_name = true" if len(schemas) > 1 else ""
    relation = (
        f"read_parquet('{quoted}/*/*.parquet', hive_partitioning = true,"
        f" hive_types = {{'_batch_id': varchar}}{by_name})"
    )
    latest = str(schemas[-1]).replace("'", "''")
    names = [
        str(name)
        for (name,) in connection.execute(
            f"select column_name from (describe select * from read_parquet('{latest}',"  # noqa: S608
            " hive_partitioning = false))"
        ).fetchall()
    ]
    names.insert(1, "_batch_id")
    statement = f"select {', '.join(names)} from {relation}"  # noqa: S608
    row = connection.execute(
        "select comment from duckdb_views() where database_name = ? and schema_name = 'raw'"
        " and view_name = 'usage_record'",
        [CATALOGUE],
    ).fetchone()
    if row is None or row[0] != statement:
        view = f"{CATALOGUE}.raw.usage_record"
        connection.execute(f"create or replace view {view} as {statement}")
        # DuckDB keeps the statement in words of its own: ours is kept beside it, to compare.
        text = statement.replace("'", "''")
        connection.execute(f"comment on view {view} is '{text}'")


def install_extensions() -> None:
    """Put DuckDB's extensions where every connection of this environment finds them.

    They come from wheels, so nothing is downloaded at run time.
    """
    missing = [
        extension
        for extension in EXTENSIONS
        if not any(EXTENSION_DIR.rglob(f"{extension}.duckdb_extension"))
    ]
    if not missing:
        return
    EXTENSION_DIR.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"extension_directory": str(EXTENSION_DIR)}) as connection:
        for extension in missing:
            import_extension(extension, con=connection)


def attach_postgres(
    connection: duckdb.DuckDBPyConnection, url: str, name: str, *, read_only: bool = False
) -> None:
    """Attach a PostgreSQL database to DuckDB under a name.

    Raises:
        EngineError: it cannot be reached; the message does not repeat the password.
    """
    options = "type postgres, read_only" if read_only else "type postgres"
    quoted = url.replace("'", "''")
    try:
        connection.execute("load postgres_scanner")  # takes longer than to connect
        connection.execute(f"attach '{quoted}' as {name} ({options})")
    except duckdb.Error as error:
        place = make_url(url).render_as_string(hide_password=True)
        reason = str(error).replace(url, place).partition("\n")[0]
        password = make_url(url).password
        if password:
            reason = reason.replace(str(password), "***")
        raise EngineError(f"the database {place} cannot be attached: {reason}") from None


@contextlib.contextmanager
def connect_engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in memory; databases are attached to it."""
    install_extensions()
    config: dict[str, Any] = {
        "extension_directory": str(EXTENSION_DIR),
        # pip has held the wheels against their digests: DuckDB would hash 40 MB at every load.
        "allow_unsigned_extensions": True,
        # Of the files that we make: older ways to pack text take longer.
        "storage_compatibility_version": "latest",
    }
    with duckdb.connect(config=config) as connection:
        connection.execute("load icu")
        connection.execute("set TimeZone = 'UTC'")
        yield connection
