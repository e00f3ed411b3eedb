"""Suspending a line and resuming it: who may, and the history that the database keeps of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from psycopg import errors

from operational.crm.suspension import set_status, status_history
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

AGENT = Principal("agent44", "agent44", "agent", "44")
OTHER = Principal("agent11", "agent11", "agent", "11")
ANALYST = Principal("analyst", "analyst", "analyst", "00")
LINE = "S0000001"  # of province 44


@pytest.fixture(autouse=True)
def active(psql: Any) -> Iterator[None]:
    """Whatever a test made of the line is undone after it."""
    with psql() as connection:
        kept = connection.execute(
            "select max(subscription_status_id) from crm.subscription_status"
        ).fetchone()
    yield
    with psql() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update crm.subscription set status = 'active', valid_to = null")
        connection.execute(
            "delete from crm.subscription_status where subscription_status_id > %s", kept
        )


def statuses(settings: Settings, subscription_id: str = LINE) -> list[str]:
    with transaction(settings) as session:
        rows = status_history(session, principal=AGENT, subscription_id=subscription_id)
    assert [row.valid_from for row in rows] == sorted(row.valid_from for row in rows)[::-1]
    return [row.status for row in rows]


def put(settings: Settings, status: str, principal: Principal = AGENT) -> str:
    line = set_status(settings, principal=principal, subscription_id=LINE, status=status)
    return line.status


def test_every_change_of_a_status_is_kept_and_no_change_is_not(
    operational: Settings, psql: Any
) -> None:
    assert statuses(operational) == ["active"]
    assert put(operational, "suspended") == put(operational, "suspended") == "suspended"
    assert put(operational, "active") == "active"
    assert statuses(operational) == ["active", "suspended", "active"]
    with psql() as connection:  # by whatever way it comes
        connection.execute("update crm.subscription set status = 'suspended'")
        connection.execute("update crm.subscription set msisdn = msisdn")
    assert statuses(operational) == ["suspended", "active", "suspended", "active"]
    with psql() as connection:
        (first,) = connection.execute(
            "select sub.valid_from = sta.valid_from from crm.subscription as sub"
            " join crm.subscription_status as sta using (subscription_id)"
            " where subscription_id = %s order by subscription_status_id limit 1",
            (LINE,),
        ).fetchone()
        audited = connection.execute(
            "select action from identity.audit_log where entity_id = %s and action like '%%sume%%'"
            " or entity_id = %s and action like 'suspend%%' order by id desc limit 2",
            (LINE, LINE),
        ).fetchall()
    assert first
    assert audited == [("resume_subscription",), ("suspend_subscription",)]


@pytest.mark.parametrize(
    "statement",
    [
        "update crm.subscription_status set valid_from = now()",
        "delete from crm.subscription_status",
        "truncate crm.subscription_status",
    ],
)
def test_the_history_cannot_be_changed(psql: Any, statement: str) -> None:
    with psql() as connection, pytest.raises(errors.RestrictViolation):
        connection.execute(statement)


def test_who_may_suspend_what(operational: Settings, psql: Any) -> None:
    with pytest.raises(ForbiddenError):
        put(operational, "suspended", ANALYST)
    with pytest.raises(NotFoundError):
        put(operational, "suspended", OTHER)
    with pytest.raises(InvalidRequestError):
        put(operational, "terminated")
    with psql() as connection:
        connection.execute("update crm.subscription set valid_to = now() where status = 'active'")
    with pytest.raises(ConflictError, match="has ended"):
        put(operational, "suspended")
    assert statuses(operational) == ["active"]


def test_page_and_rest_suspend_and_show_it(
    operational: Settings, browser: Callable[..., TestClient]
) -> None:
    client = browser("agent44", "en")
    page = f"/subscriptions/{LINE}"
    token = re.findall(r'name="csrf_token" value="(\w+)"', client.get(page).text)[0]
    answer = client.post(f"{page}/status", data={"csrf_token": token, "status": "suspended"})
    assert answer.status_code == 303
    shown = client.get(page).text
    assert ("Resume" in shown, "Status history" in shown) == (True, True)
    assert "Resume</button>" not in browser("analyst", "en").get(page).text
    path, agent = f"/tmf-api/serviceInventory/v4/service/{LINE}/status", ("agent44", "tollhouse")
    resumed = client.post(path, json={"status": "active"}, auth=agent)
    assert (resumed.status_code, resumed.json()["status"]) == (200, "active")
    assert client.post(path, json={"status": "terminated"}, auth=agent).status_code == 422
    found = client.get(path, auth=agent).json()
    assert [row["status"] for row in found] == ["active", "suspended", "active"]
