"""Takes the README's pictures from the running product: `make screenshots` (after `make demo`).

Starts the services if they do not run and stops what it started.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tollhouse.postgres import connect
from tollhouse.services import State, down, status, up
from tollhouse.services.pages import (
    find_chromium,
    photograph_airflow,
    photograph_dashboard,
    photograph_file,
    photograph_web,
)
from tollhouse.services.service import local_url
from tollhouse.settings import Settings, get_settings
from tollhouse.warehouse import read_warehouse

PICTURES = Path(__file__).parent / "pictures"
CHARTS = 15
WAIT_S = 60.0  # for a writer to end


def take(settings: Settings) -> None:
    """Save the pictures of the KPI report, the web pages, the dashboard and Airflow's graph."""
    PICTURES.mkdir(exist_ok=True)
    password = settings.admin_password.get_secret_value()
    report = settings.report_dir / f"kpi-{settings.cycle}.html"
    photograph_file(report, PICTURES / "kpi-report.png")
    with connect(settings) as connection:
        row = connection.execute(
            "select account.customer_id, bill.bill_id from billing.bill"
            " join billing.bill_item using (bill_id) join crm.account using (account_id)"
            " join crm.customer_score using (subscription_id)"
            " group by account.customer_id, bill.bill_id"
            " order by max(churn_probability) desc, count(*) desc, bill.bill_id limit 1"
        ).fetchone()
    if row is None:
        sys.exit("there is no published bill to photograph: run `make demo` first")
    customer_id, bill_id = row
    with read_warehouse(settings, WAIT_S) as warehouse:
        ((usage_id,),) = warehouse.rows(
            "select cast(usage_id as varchar) from billing.usage_charge"
            " where left_micro between 1 and quantity_micro - 1"
            " order by amount desc, usage_id limit 1"
        )
    photograph_web(
        local_url(settings, settings.web_port),
        {
            f"/customers/{customer_id}": PICTURES / "customer.png",
            f"/bills/{bill_id}": PICTURES / "bill.png",
            f"/explain/{usage_id}": PICTURES / "explanation.png",
            f"/cycles/{settings.cycle}/totals": PICTURES / "control-totals.png",
        },
        password=password,
    )
    photograph_dashboard(
        local_url(settings, settings.superset_port),
        PICTURES / "dashboard.png",
        password=password,
        chart_count=CHARTS,
    )
    photograph_airflow(
        local_url(settings, settings.airflow_port),
        PICTURES / "airflow.png",
        path="/dags/collect_usage",
        as_graph=True,
        password=password,
        shows="collect_usage",
    )


def main() -> None:
    """Entry point of `make screenshots`."""
    if find_chromium() is None:
        sys.exit("there is no Chromium on this machine: install one and try again")
    settings = get_settings()
    was_running = all(service.state is State.running for service in status(settings))
    up(settings)
    try:
        take(settings)
    finally:
        if not was_running:
            down(settings)


if __name__ == "__main__":
    main()
