"""The DAG files: quick to parse, thin, explained, and all of one shape."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tollhouse.pipeline import STEPS
from tollhouse.postgres import EmbeddedServer, operational_url
from tollhouse.services.airflow import DAGS_DIR, WRITER_POOL, airflow_environment
from tollhouse.settings import Settings

FILES = sorted(DAGS_DIR.glob("*.py"))
PROCESSES = {
    "open_cycle", "collect_usage", "rate_usage", "deduct_prepaid", "bill_cycle", "settle_partners",
    "refresh_marts", "score_customers", "publish_kpi", "maintain_warehouse", "collect_arrears",
}  # fmt: skip
# What the steps are made of; they import it when they run.
HEAVY = {
    "dbt", "duckdb", "great_expectations", "numpy", "pandas", "pyarrow", "sklearn", "expectations",
    "ingestion", "ml", "operational",
}  # fmt: skip
PROGRAM_TIMEOUT_S = 500

# Airflow reads its configuration when it is imported, so it runs in a process of its own.
INSPECT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
before = set(sys.modules)
bag = DagBag(sys.argv[1])
imported = sys.modules.keys() - before
def waits_for(condition):
    if condition is None:
        return []
    if hasattr(condition, "uri"):
        return [condition.uri]
    return sorted(uri for part in condition.objects for uri in waits_for(part))
print(json.dumps({
    "errors": bag.import_errors,
    "imported": sorted({module.partition(".")[0] for module in imported}),
    "dags": {
        dag.dag_id: {
            "file": dag.fileloc,
            "doc": dag.doc_md,
            "tags": sorted(dag.tags),
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "paused": dag.is_paused_upon_creation,
            "tasks": {
                task.task_id: {
                    "pool": task.pool,
                    "retries": task.retries,
                    "backoff": task.retry_exponential_backoff,
                    "after": sorted(task.upstream_task_ids),
                    "makes": [outlet.uri for outlet in task.outlets],
                }
                for task in dag.tasks
            },
            "waits_for": waits_for(dag.timetable.asset_condition),
        }
        for dag in bag.dags.values()
    },
}))
"""


RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
states = {}
for dag_id in sys.argv[2:]:
    run = bag.dags[dag_id].test()
    tasks = run.get_task_instances()
    states[dag_id] = {task.task_id: str(task.state) for task in tasks}
print(json.dumps(states))
"""


def _run(settings: Settings, *arguments: str) -> str:
    """Run Python in Airflow's environment; its last line of output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=airflow_environment(settings),
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An Airflow of our own: its home, and its metadata in an embedded PostgreSQL."""
    settings = Settings(home=tmp_path_factory.mktemp("airflow"), subscribers=200)
    try:
        _run(settings, "-m", "tollhouse.services.airflow_metadata")
        yield settings
    finally:
        EmbeddedServer(settings.home).remove()


@pytest.fixture(scope="module")
def parsed(airflow: Settings) -> dict[str, Any]:
    """What Airflow sees in the folder of DAGs."""
    found: dict[str, Any] = json.loads(_run(airflow, "-c", INSPECT, str(DAGS_DIR)))
    return found


def test_every_file_parses(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == PROCESSES


def test_no_file_takes_long_to_parse(parsed: dict[str, Any]) -> None:
    # The scheduler parses every file again and again: heavy imports belong into the steps.
    assert "tollhouse" in parsed["imported"]
    assert HEAVY.isdisjoint(parsed["imported"])


def test_dag_is_named_as_its_file(parsed: dict[str, Any]) -> None:
    assert {dag_id: Path(dag["file"]).stem for dag_id, dag in parsed["dags"].items()} == {
        name: name for name in PROCESSES
    }


def test_dags_do_not_catch_up_or_overlap(parsed: dict[str, Any]) -> None:
    for dag_id, dag in parsed["dags"].items():
        assert not dag["catchup"], dag_id
        assert dag["max_active_runs"] == 1, dag_id


def test_a_dag_explains_itself_in_chinese_and_english(parsed: dict[str, Any]) -> None:
    for dag_id, dag in parsed["dags"].items():
        for heading in (
            "做什么 What",
            "何时 When",
            "输入 Inputs",
            "输出 Outputs",
            "失败时 When it fails",
        ):
            assert heading in dag["doc"], dag_id
        advised = set(re.findall(r"\*\*([a-z_]+)\*\*", dag["doc"].split("When it fails")[1]))
        assert advised <= set(dag["tasks"]), dag_id
        assert dag["tags"], dag_id


def test_tasks_are_pipeline_steps_in_the_pool_of_one_writer(parsed: dict[str, Any]) -> None:
    for dag_id, dag in parsed["dags"].items():
        assert set(dag["tasks"]) <= set(STEPS), dag_id
        for task in dag["tasks"].values():
            assert task["pool"] == WRITER_POOL
            assert task["retries"] > 0
            assert task["backoff"]


def test_only_what_starts_by_the_clock_waits_to_be_switched_on(parsed: dict[str, Any]) -> None:
    by_clock = {dag_id for dag_id, dag in parsed["dags"].items() if not dag["waits_for"]}
    assert by_clock == {
        "open_cycle", "collect_usage", "deduct_prepaid", "bill_cycle", "collect_arrears",
        "maintain_warehouse",
    }  # fmt: skip
    assert by_clock == {dag_id for dag_id, dag in parsed["dags"].items() if dag["paused"]}


def test_every_asset_waited_for_is_made_by_a_process(parsed: dict[str, Any]) -> None:
    made = {
        asset
        for dag in parsed["dags"].values()
        for task in dag["tasks"].values()
        for asset in task["makes"]
    }
    waited_for = {asset for dag in parsed["dags"].values() for asset in dag["waits_for"]}
    assert waited_for == made
    assert all(asset.startswith("tollhouse://") for asset in made)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dag_file_imports_airflow_and_the_pipeline_only(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            imported |= (
                {f"tollhouse.{name}" for name in names}
                if node.module == "tollhouse"
                else {str(node.module)}
            )
    assert imported <= {
        "datetime", "zoneinfo", "airflow.sdk", "airflow.sdk.exceptions", "tollhouse.pipeline",
    }  # fmt: skip


@pytest.mark.pipeline
def test_the_processes_bill_a_simulated_carrier(airflow: Settings) -> None:
    start = "from tollhouse.pipeline import run_step; run_step('prepare'); run_step('simulate')"
    _run(airflow, "-c", start)
    order = (
        "collect_usage", "rate_usage", "deduct_prepaid", "bill_cycle", "settle_partners",
        "refresh_marts", "score_customers", "publish_kpi", "maintain_warehouse", "open_cycle",
        "collect_arrears",
    )  # fmt: skip
    states = json.loads(_run(airflow, "-c", RUN, str(DAGS_DIR), *order))
    assert set(states) == PROCESSES
    assert {state for tasks in states.values() for state in tasks.values()} == {"success"}
    with psycopg.connect(operational_url(airflow)) as serving:
        row = serving.execute("select count(*) from dm.kpi_value where value > 0").fetchone()
    assert row is not None
    assert row[0] > 0
    again = json.loads(_run(airflow, "-c", RUN, str(DAGS_DIR), "collect_usage"))
    assert again["collect_usage"]["check_landing"] == "skipped", "nothing new: nothing to start"
