"""All services together, on a carrier that was billed: what people see is what was published."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tollhouse.postgres import operational_url
from tollhouse.services import ServiceStatus, State, down, status, up
from tollhouse.services.pages import find_chromium, photograph_airflow, photograph_dashboard
from tollhouse.services.superset import ENVIRONMENT_DIR, is_installed
from tollhouse.settings import PROJECT_ROOT, Settings

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(not is_installed(), reason=f"there is no {ENVIRONMENT_DIR}"),
]
needs_browser = pytest.mark.skipif(
    find_chromium() is None, reason="there is no Chromium on this machine"
)
REQUEST_TIMEOUT_S = 60


def _load_bundle_module() -> Any:
    path = PROJECT_ROOT / "dashboards" / "bundle.py"
    spec = importlib.util.spec_from_file_location("bundle", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def installation(small_carrier: Settings) -> Iterator[Settings]:
    """The small carrier's installation with every service running on ports of its own."""
    web, airflow, superset = _free_ports(3)
    settings = small_carrier.model_copy(
        update={"web_port": web, "airflow_port": airflow, "superset_port": superset}
    )
    try:
        up(settings)
        yield settings
    finally:
        down(settings)


@pytest.fixture(scope="module")
def services(installation: Settings) -> dict[str, ServiceStatus]:
    """The running services by name."""
    return {service.name: service for service in status(installation)}


class _Superset:
    """Superset's interface for programs, signed in as one user."""

    def __init__(self, base_url: str, username: str, password: str) -> None:
        self._client = httpx.Client(
            base_url=base_url, timeout=REQUEST_TIMEOUT_S, headers={"Referer": base_url}
        )
        answer = self._post(
            "/api/v1/security/login",
            {"username": username, "password": password, "provider": "db"},
        )
        self._client.headers["Authorization"] = f"Bearer {answer['access_token']}"
        token = self.get("/api/v1/security/csrf_token/")["result"]
        self._client.headers["X-CSRFToken"] = token

    def get(self, path: str) -> dict[str, Any]:
        answer = self._client.get(path)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(path, json=content)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def rows(self, table: str, **query: Any) -> list[dict[str, Any]]:
        """What a query on a dataset gives, past every cache."""
        datasets = {
            dataset["table_name"]: dataset["id"]
            for dataset in self.get("/api/v1/dataset/?q=(page_size:100)")["result"]
        }
        answer = self._post(
            "/api/v1/chart/data",
            {
                "datasource": {"id": datasets[table], "type": "table"},
                "force": True,
                "queries": [{"columns": [], "metrics": [], "filters": [], **query}],
            },
        )
        rows: list[dict[str, Any]] = answer["result"][0]["data"]
        return rows


def _sign_in(settings: Settings, username: str) -> _Superset:
    base_url = f"http://127.0.0.1:{settings.superset_port}"
    return _Superset(base_url, username, settings.admin_password.get_secret_value())


def test_every_service_runs(services: dict[str, ServiceStatus]) -> None:
    assert {name: service.state for name, service in services.items()} == dict.fromkeys(
        ("postgresql", "web", "airflow", "superset"), State.running
    )


def test_the_dashboards_revenue_is_the_published_revenue(installation: Settings) -> None:
    shown = _sign_in(installation, "analyst").rows(
        "revenue", columns=["province_code"], metrics=["revenue"]
    )
    with psycopg.connect(operational_url(installation)) as serving:
        published = dict(
            serving.execute(
                "select province_code, sum(amount) from dm.revenue group by province_code"
            ).fetchall()
        )
    assert published
    assert {
        row["province_code"]: Decimal(str(row["revenue"])).quantize(Decimal("0.01"))
        for row in shown
    } == published


def test_a_provinces_manager_sees_that_province_only(installation: Settings) -> None:
    manager = _sign_in(installation, "guangdong")
    for table in ("revenue", "kpi_value", "daily_usage", "customer_score"):
        rows = manager.rows(table, columns=["province_code"])
        assert {row["province_code"] for row in rows} == {"44"}, table


def test_the_reader_of_the_dashboards_cannot_write(installation: Settings) -> None:
    url = operational_url(installation).replace("//postgres@", "//bi_reader@")
    with (
        psycopg.connect(url) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute("delete from dm.kpi_value")


def test_airflow_shows_the_processes_to_an_analyst_who_may_not_start_them(
    installation: Settings,
) -> None:
    base_url = f"http://127.0.0.1:{installation.airflow_port}"
    password = installation.admin_password.get_secret_value()
    with httpx.Client(base_url=base_url, timeout=REQUEST_TIMEOUT_S) as client:
        answer = client.post("/auth/token", json={"username": "analyst", "password": password})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        dags = client.get("/api/v2/dags").json()["dags"]
        assert "collect_usage" in {dag["dag_id"] for dag in dags}
        started = client.post("/api/v2/dags/collect_usage/dagRuns", json={"logical_date": None})
        assert started.status_code == httpx.codes.FORBIDDEN


@pytest.mark.browser
@needs_browser
def test_every_chart_of_the_overview_is_drawn(installation: Settings, tmp_path: Path) -> None:
    assets = _load_bundle_module().read_assets()
    charts = [
        chart
        for row in assets["dashboard"]["operations-overview"]["layout"]
        for chart in row["charts"]
    ]
    text, failures = photograph_dashboard(
        f"http://127.0.0.1:{installation.superset_port}",
        tmp_path / "overview.png",
        password=installation.admin_password.get_secret_value(),
        chart_count=len(charts),
    )
    assert failures == []
    assert (tmp_path / "overview.png").stat().st_size > 0
    for chart in charts:
        assert assets["chart"][chart]["slice_name"] in " ".join(text.split())
    for complaint in ("没有数据", "意外错误", "Unexpected error", "No data"):
        assert complaint not in text


@pytest.mark.browser
@needs_browser
def test_airflow_lists_the_processes(installation: Settings, tmp_path: Path) -> None:
    text = photograph_airflow(
        f"http://127.0.0.1:{installation.airflow_port}",
        tmp_path / "dags.png",
        password=installation.admin_password.get_secret_value(),
    )
    assert "collect_usage" in text
    assert "score_customers" in text
