"""The REST interface: the same services, other words."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from operational.billing.service import ensure_cycle, publish_bills
from tests.operational.accounts_books import MOVEMENTS
from tollhouse.settings import Settings

CUSTOMER = "/tmf-api/customerManagement/v4/customer"
ORDER = "/tmf-api/productOrderingManagement/v4/productOrder"
BILL = "/tmf-api/customerBillManagement/v4/customerBill"


@pytest.fixture
def client(application: Any) -> Iterator[TestClient]:
    with TestClient(application) as opened:
        yield opened


def as_user(username: str) -> tuple[str, str]:
    return (username, "tollhouse")


def order(msisdn: str, **changes: Any) -> dict[str, Any]:
    return {
        "province_code": "44", "customer_name": "周八", "offering_id": "plan-4g-56",
        "msisdn": msisdn,
    } | changes  # fmt: skip


def free_number(psql: Any) -> str:
    with psql() as connection:
        return str(
            connection.execute(
                "select max(msisdn) from resource.msisdn"
                " where status = 'free' and province_code = '44' and msisdn like '861%'"
            ).fetchone()[0]
        )


def test_a_caller_without_a_password_gets_a_problem_and_a_challenge(client: TestClient) -> None:
    for credentials in (None, ("admin", "wrong")):
        answer = client.get(CUSTOMER, auth=credentials)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Basic"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == "Unauthorized"


def test_a_session_cookie_alone_opens_nothing(client: TestClient, browser: Any) -> None:
    signed_in = browser("admin")
    assert signed_in.get(CUSTOMER).status_code == 401


def test_customers_are_scoped_by_province_and_masked_by_role(client: TestClient) -> None:
    found = client.get(CUSTOMER, auth=as_user("agent44"), params={"limit": 200}).json()
    assert {row["provinceCode"] for row in found} == {"44"}
    assert client.get(f"{CUSTOMER}/C0000003", auth=as_user("agent44")).status_code == 404
    row = client.get(f"{CUSTOMER}/C0000001", auth=as_user("analyst")).json()
    assert row["name"] == "王*"
    assert row["account"][0]["subscription"][0]["msisdn"] == "86186****01"


def test_users_are_scoped_by_province(client: TestClient, psql: Any) -> None:
    with psql() as connection:
        for username, province in (("manager44", "44"), ("manager11", "11")):
            connection.execute(
                "insert into identity.app_user (username, password_hash, display_name, role,"
                " province_code) select %s, password_hash, 'x', 'admin', %s"
                " from identity.app_user where username = 'admin'",
                (username, province),
            )
    path = "/api/identity/v1/user"
    found = client.get(path, auth=as_user("manager44")).json()
    assert {row["provinceCode"] for row in found} == {"44"}
    everybody = {row["username"] for row in client.get(path, auth=as_user("admin")).json()}
    assert everybody >= {"admin", "agent44", "manager44", "manager11"}


def test_an_order_needs_an_idempotency_key(client: TestClient, psql: Any) -> None:
    answer = client.post(ORDER, auth=as_user("agent44"), json=order(free_number(psql)))
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


def test_an_order_sent_twice_is_placed_once(client: TestClient, psql: Any) -> None:
    body, headers = order(free_number(psql)), {"Idempotency-Key": "till-7/receipt-1"}
    first = client.post(ORDER, auth=as_user("agent44"), json=body, headers=headers)
    again = client.post(ORDER, auth=as_user("agent44"), json=body, headers=headers)
    assert first.status_code == 201
    assert first.json() == again.json()
    assert first.json()["state"] == "completed"
    assert client.get(first.headers["location"], auth=as_user("agent44")).json() == first.json()
    other = client.post(
        ORDER, auth=as_user("agent44"), headers=headers, json=body | {"offering_id": "plan-4g-76"}
    )
    assert other.status_code == 409


def test_problems_say_what_is_wrong_in_rfc_9457(client: TestClient) -> None:
    key = {"Idempotency-Key": "problem"}
    answer = client.post(ORDER, auth=as_user("agent44"), headers=key, json=order("8618600000001"))
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) >= {"type", "title", "status", "detail", "instance"}
    assert problem["detail"] == "number 8618600000001 is assigned; choose another number"
    answer = client.post(ORDER, auth=as_user("agent44"), headers=key, json=order("abc"))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.msisdn"
    assert client.get("/tmf-api/nothing", auth=as_user("admin")).json()["status"] == 404
    assert client.post(
        ORDER, auth=as_user("finance"), headers=key, json=order("8618500000000")
    ).status_code == 403  # fmt: skip


def publish_one_bill(operational: Settings) -> None:
    """A bill of A0000001: 0.10 brought forward and one minute for 0.20."""
    ensure_cycle(operational, "2043-07", "Asia/Shanghai")
    publish_bills(
        operational,
        pa.Table.from_pylist(
            [
                {
                    "bill_id": "B-api", "account_id": "A0000001", "cycle_id": "2043-07",
                    "province_code": "44", "opening_amount": Decimal("0.10"),
                    "item_amount": Decimal("0.20"), "discount_amount": Decimal("0.00"),
                    "shared_amount": Decimal("0.00"), "tax_amount": Decimal("0.02"),
                    "charge_amount": Decimal("0.20"), "adjustment_amount": Decimal("0.00"),
                    "payment_amount": Decimal("0.00"),
                    "closing_amount": Decimal("0.30"), "currency_code": "CNY",
                    "content_hash": "h",
                }
            ]
        ),
        pa.Table.from_pylist(
            [
                {
                    "bill_item_key": "B-api-voice", "item_kind": "charge", "discount_id": None,
                    "other_account_id": None, "base_amount": None, "tax_class": "basic",
                    "tax_rate_percent": Decimal("9.0000"), "tax_amount": Decimal("0.02"),
                    "bill_id": "B-api", "subscription_id": "S0000001", "bill_item_code": "voice",
                    "name_zh": "语音", "name_en": "Voice", "quantity": Decimal(60),
                    "unit": "second", "amount": Decimal("0.20"),
                }
            ]
        ),
        MOVEMENTS.empty_table(),
    )  # fmt: skip


def test_a_bill_gives_amounts_as_exact_text(client: TestClient, operational: Settings) -> None:
    publish_one_bill(operational)
    bill = client.get(f"{BILL}/B-api", auth=as_user("finance")).json()
    assert bill["amountDue"] == {"unit": "CNY", "value": "0.30"}
    assert bill["billItem"][0]["amount"] == {"unit": "CNY", "value": "0.20"}
    listed = client.get(BILL, auth=as_user("finance"), params={"billCycle.id": "2043-07"}).json()
    assert [row["id"] for row in listed] == ["B-api"]
    for shown in (bill, listed[0]):  # 20 days after the cycle's last day, as in the ledger
        assert (shown["billDate"], shown["paymentDueDate"]) == ("2043-07-31", "2043-08-20")
    page = client.get("/bills/B-api", follow_redirects=False)
    assert page.status_code == 303


def test_the_bill_page_shows_items_by_number_in_the_language_chosen(
    browser: Any, operational: Settings
) -> None:
    publish_one_bill(operational)
    for language, words in (
        ("zh", ("语音", "1 分钟", "应缴金额")),
        ("en", ("Voice", "1 min", "Amount due")),
    ):
        text = browser("agent44", language).get("/bills/B-api").text
        assert "8618600000001" in text
        assert all(word in text for word in words)
        assert "0.30" in text


@pytest.mark.parametrize(
    ("path", "username", "status"),
    [
        ("/tmf-api/productCatalogManagement/v4/productOffering", "analyst", 200),
        ("/tmf-api/productCatalogManagement/v4/productOffering/plan-4g-596", "analyst", 200),
        ("/tmf-api/agreementManagement/v4/agreement", "finance", 200),
        ("/tmf-api/agreementManagement/v4/agreement", "agent44", 403),
        ("/api/control/v1/usageFile", "operator", 200),
        ("/api/control/v1/usageFile", "analyst", 403),
        ("/api/identity/v1/me", "agent44", 200),
        ("/api/identity/v1/user", "agent44", 403),
    ],
)
def test_an_interface_opens_for_the_roles_that_need_it(
    client: TestClient, path: str, username: str, status: int
) -> None:
    assert client.get(path, auth=as_user(username)).status_code == status


def test_the_interface_describes_itself_without_a_page_that_loads_from_elsewhere(
    client: TestClient,
) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {CUSTOMER, ORDER, BILL} <= set(paths)
    assert client.get("/docs").status_code == 404
