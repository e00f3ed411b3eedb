"""Running dbt, inside this process, on the engine of the profile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import make_url

from tollhouse.settings import PROJECT_ROOT, Profile, Settings
from tollhouse.warehouse.connection import CATALOGUE, EXTENSION_DIR, install_extensions
from tollhouse.warehouse.lock import writer_lock

DBT_PROJECT = PROJECT_ROOT / "dbt"

# The project as dbt has read it, which takes as long as a small run, by what it was read for.
_manifests: dict[tuple[str | None, ...], Any] = {}


class TransformError(RuntimeError):
    """dbt models or tests failed; the message names each with its reason."""


@dataclass(frozen=True)
class TransformResult:
    """What a dbt run did: counts of nodes by status."""

    succeeded: int
    warned: int


def transform(
    settings: Settings,
    select: Sequence[str],
    *,
    command: str = "build",
    exclude: Sequence[str] = (),
    on_node: Callable[[str], None] | None = None,
    wait_s: float = 0.0,
) -> TransformResult:
    """Run a dbt command over the selected nodes, holding the writer's lock.

    Args:
        settings: says which engine; the dbt profile reads them through environment variables.
        select: dbt selectors, for example ``["mediation", "ods"]``.
        command: ``build`` (seeds, models and their tests), ``run``, ``test``, ``seed``.
        exclude: dbt selectors left out.
        on_node: called with the name of each node as it ends, for progress.
        wait_s: how long to wait for another writer to end.

    Raises:
        TransformError: a model or a test failed.
        WarehouseBusyError: another process writes.
    """
    # A test that joins two models runs with the later one, not with each. Unit tests are about the
    # code, not the data: the test suite runs them.
    arguments = [command, "--indirect-selection", "buildable", "--select", *select]
    if command == "build":
        arguments += ["--exclude-resource-type", "unit_test"]
    if exclude:
        arguments += ["--exclude", *exclude]
    # Nobody reads dbt's artifacts of a run, and writing them takes as long as a small run.
    arguments += ["--no-write-json"]
    with writer_lock(settings, f"dbt {command} {' '.join(select)}", wait_s):
        outcome = run_dbt(settings, arguments, on_node, _manifest(settings))
    failures = [
        f"{result.node.name}: {(result.message or result.status).strip()}"
        for result in getattr(outcome.result, "results", []) or []
        if str(result.status) in ("error", "fail", "runtime error")
    ]
    if outcome.exception is not None and not failures:
        raise TransformError(f"dbt {command} did not run: {outcome.exception}")
    if failures:
        raise TransformError("dbt failed on\n  " + "\n  ".join(failures))
    statuses = [str(result.status) for result in outcome.result.results]
    return TransformResult(
        succeeded=sum(status in ("success", "pass") for status in statuses),
        warned=statuses.count("warn"),
    )


def run_dbt(
    settings: Settings,
    arguments: Sequence[str],
    on_node: Callable[[str], None] | None = None,
    manifest: Any = None,
) -> Any:
    """Call dbt with our project, profile, target and log folders; returns dbt's own result.

    A manifest is the project as dbt has read it before, so that it need not read it.
    """
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - takes seconds; most who come here need none

    install_extensions()
    os.environ.update(dbt_environment(settings))

    def watch(event: Any) -> None:
        if on_node and event.info.name in ("LogModelResult", "LogTestResult", "LogSeedResult"):
            on_node(event.data.node_info.node_name)

    target_path = settings.home / "dbt" / settings.profile.value
    call = [
        "--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check",
        # What fails is raised: dbt need not print it too.
        "--log-level", "none", "--log-path", str(settings.log_dir), "--log-level-file", "info",
        # Of the schemas that nothing is made in nobody asks what is there.
        "--cache-selected-only",
        *arguments,
        "--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT),
        "--target", settings.profile.value, "--target-path", str(target_path),
    ]  # fmt: skip
    try:
        return dbtRunner(manifest=manifest, callbacks=[watch]).invoke(call)
    finally:
        _close_duckdb()


def _manifest(settings: Settings) -> Any:
    """The project as dbt reads it for these settings; read once in a process.

    Raises:
        TransformError: dbt cannot read it.
    """
    database = make_url(settings.warehouse_url).database if settings.warehouse_url else None
    read_for = (settings.profile, settings.warehouse_file.stem, database, settings.timezone)
    if read_for not in _manifests:
        outcome = run_dbt(settings, ["parse", "--no-write-json"])
        if not outcome.success:
            raise TransformError(f"dbt cannot read the project: {outcome.exception}")
        _manifests[read_for] = outcome.result
    return _manifests[read_for]


def dbt_environment(settings: Settings) -> dict[str, str]:
    """The environment variables `dbt/profiles.yml` and `dbt_project.yml` read."""
    environment = {
        "TOLLHOUSE_WAREHOUSE_FILE": str(settings.warehouse_file),
        "TOLLHOUSE_EXTENSION_DIR": str(EXTENSION_DIR),
        "TOLLHOUSE_THREADS": str(settings.threads),
        "TOLLHOUSE_MEMORY": settings.memory,
        "TOLLHOUSE_TIMEZONE": settings.timezone,
        "TOLLHOUSE_USAGES_AT_ONCE": str(settings.usages_at_once),
        "DO_NOT_TRACK": "1",
    }
    if settings.profile is not Profile.embedded:
        url = make_url(settings.warehouse_url or "")
        environment |= {
            "TOLLHOUSE_WAREHOUSE_HOST": url.host or "127.0.0.1",
            "TOLLHOUSE_WAREHOUSE_PORT": str(url.port or 5432),
            "TOLLHOUSE_WAREHOUSE_USER": url.username or "postgres",
            "DBT_ENV_SECRET_WAREHOUSE_PASSWORD": url.password or "",
            "TOLLHOUSE_WAREHOUSE_DATABASE": url.database or CATALOGUE,
        }
    return environment


def _close_duckdb() -> None:
    """Let go of the DuckDB file, so that the next step can open it."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # noqa: PLC0415

    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call] # of dbt-duckdb
