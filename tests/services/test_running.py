"""All services together, on a carrier that was billed: what people see is what was published."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tollhouse.ports import free_port
from tollhouse.postgres import operational_url
from tollhouse.services import ServiceStatus, State, down, status, up
from tollhouse.services.pages import (
    find_chromium,
    open_browser,
    photograph_airflow,
    photograph_dashboard,
    photograph_file,
    photograph_web,
)
from tollhouse.services.superset import ENVIRONMENT_DIR, is_installed, serving_url
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


@pytest.fixture(scope="module")
def installation(small_carrier: Settings) -> Iterator[Settings]:
    """The small carrier's installation with every service running on ports of its own."""
    settings = small_carrier.model_copy(
        update={name: free_port() for name in ("web_port", "airflow_port", "superset_port")}
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
    url = serving_url(installation).replace("+psycopg2", "").partition("?")[0]
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
        shows="collect_usage",
    )
    assert "collect_usage" in text
    assert "score_customers" in text


CHINESE_FONTS = (
    "WenQuanYi",
    "Noto Sans CJK",
    "Noto Serif CJK",
    "Source Han",
    "AR PL",
    "Droid Sans",
)


def _has_chinese_font(families: set[str]) -> bool:
    return any(family.startswith(CHINESE_FONTS) for family in families)


@pytest.mark.browser
@needs_browser
def test_a_customer_and_his_bill_are_read_in_chinese_and_in_english(
    installation: Settings, tmp_path: Path
) -> None:
    with psycopg.connect(operational_url(installation)) as connection:
        row = connection.execute(
            "select account.customer_id, customer.name, bill.bill_id, bill.charge_amount"
            " from billing.bill join crm.account using (account_id)"
            " join crm.customer using (customer_id) order by bill.charge_amount desc limit 1"
        ).fetchone()
    assert row
    customer_id, name, bill_id, charged = row
    customer, bill = f"/customers/{customer_id}", f"/bills/{bill_id}"
    for language, rent in (("zh", "月租费"), ("en", "Monthly rental")):
        seen = photograph_web(
            f"http://127.0.0.1:{installation.web_port}",
            {customer: tmp_path / "customer.png", bill: tmp_path / "bill.png"},
            language=language,
            password=installation.admin_password.get_secret_value(),
        )
        assert name in seen[customer][0]
        assert f"{charged:,}" in seen[bill][0]
        assert rent in seen[bill][0]
        assert _has_chinese_font(seen[customer][1]), seen[customer][1]


@pytest.mark.browser
@needs_browser
def test_the_order_form_in_a_browser_creates_a_subscription(installation: Settings) -> None:
    base_url = f"http://127.0.0.1:{installation.web_port}"
    with psycopg.connect(operational_url(installation)) as connection:
        before = _subscriptions(connection)
    with open_browser(width=1280, height=1400) as page:
        page.goto(f"{base_url}/sign-in", wait_until="domcontentloaded")
        page.fill('input[name="username"]', "agent44")
        page.fill('input[name="password"]', installation.admin_password.get_secret_value())
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/sign-in" not in url)
        page.goto(f"{base_url}/orders/new", wait_until="networkidle")
        page.fill('input[name="customer_name"]', "测试客户")
        page.click('label.plan:has(input[value="plan-4g-76"])')
        page.click("#numbers label >> nth=0")
        page.click("form.order button.primary")
        page.wait_for_url(lambda url: "/orders/" in url and not url.endswith("/new"))
        text = page.inner_text("body")
    with psycopg.connect(operational_url(installation)) as connection:
        created = _subscriptions(connection) - before
        assert len(created) == 1, text
        ((subscription_id, _),) = created
        instance = connection.execute(
            "select offering_id from crm.product_instance where subscription_id = %s",
            (subscription_id,),
        ).fetchone()
    assert instance == ("plan-4g-76",)
    assert subscription_id in text


def _subscriptions(connection: psycopg.Connection) -> set[tuple[str, str]]:
    return set(
        connection.execute("select subscription_id, msisdn from crm.subscription").fetchall()
    )


@pytest.mark.browser
@needs_browser
def test_the_kpi_report_is_legible_in_a_browser(installation: Settings, tmp_path: Path) -> None:
    report = installation.report_dir / f"kpi-{installation.cycle}.html"
    text, families = photograph_file(report, tmp_path / "report.png")
    assert "经营分析月报" in text
    assert "广东" in text
    assert _has_chinese_font(families), families
