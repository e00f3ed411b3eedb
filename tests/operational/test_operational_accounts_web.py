"""Pages and REST of the accounts: who sees what, forms that do a thing once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from operational.accounts import prepaid, service
from operational.app import create_app
from operational.billing.service import ensure_cycle
from operational.database import transaction
from operational.security import SESSION_COOKIE
from tests.operational.accounts_books import (
    ACCOUNTS,
    FINANCE,
    connect,
    issue,
    pay,
    read,
)  # fmt: skip
from tests.operational.accounts_books import (
    books as new_books,
)
from tests.operational.test_operational_accounts_bank import as_mt940, line, statement
from tollhouse.settings import Settings

ONE, TWO, THREE, FOUR = ACCOUNTS
PAYMENT = "/tmf-api/paymentManagement/v4/payment"


@pytest.fixture(scope="module")
def shop(books_host: Settings) -> Iterator[Settings]:
    """Books with two months of bills, a payment, arrears and a note."""
    with new_books(books_host) as settings:
        issue(settings, "2026-09", {ONE: {"rent": Decimal(76)}, THREE: {"rent": Decimal(46)}})
        issue(settings, "2026-10", {ONE: {"rent": Decimal(76)}, TWO: {"rent": Decimal(106)}})
        pay(settings, ONE, "100.00", date(2026, 10, 9))
        with connect(settings) as connection:
            for name, role, province in (("finance", "finance", "00"), ("agent44", "agent", "44")):
                connection.execute(
                    "insert into identity.app_user (username, password_hash, display_name, role,"
                    " province_code) select %s, password_hash, %s, %s, %s from identity.app_user"
                    " where username = 'admin'",
                    (name, name, role, province),
                )
        yield settings


@pytest.fixture(scope="module")
def site(shop: Settings) -> Any:
    return create_app(shop)


class Browser:
    """A signed-in browser that sends forms with their token."""

    def __init__(self, site: Any, username: str, language: str = "en") -> None:
        self.client = TestClient(site, follow_redirects=True)
        signer = site.state.installation.signer
        self.client.cookies.set(SESSION_COOKIE, signer.dump(signer.new(username, 0)))
        self.client.get(f"/language/{language}")

    def page(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        assert "/sign-in" not in str(answer.url)
        return answer.text

    def send(self, page: str, path: str, files: Any = None, **fields: str) -> Any:
        token = re.search(r'name="csrf[^"]*" value="([^"]+)"', page)
        name = re.search(r'name="(csrf[^"]*)"', page)
        assert token and name
        return self.client.post(path, data={name[1]: token[1]} | fields, files=files)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_of_the_room_opens_for_finance(site: Any, language: str) -> None:
    browser = Browser(site, "finance", language)
    for path in (
        "/accounts", f"/accounts/of/{ONE}", "/accounts/search?q=8618600000001",
        "/accounts/notes", "/accounts/ageing?as_of=2026-11-25", "/accounts/dunning?closed=true",
        "/accounts/bank", "/accounts/trial-balance?from=2026-09-01&to=2026-11-30",
    ):  # fmt: skip
        browser.page(path)


def test_an_agent_sees_the_own_province_and_not_the_ledger(site: Any) -> None:
    browser = Browser(site, "agent44")
    found = browser.page("/accounts/search")
    assert ONE in found
    assert THREE not in found
    assert browser.client.get(f"/accounts/of/{THREE}").status_code == 404
    assert THREE not in browser.page("/accounts/ageing?as_of=2026-11-25")
    for path in ("/accounts/trial-balance", "/accounts/bank"):
        assert browser.client.get(path).status_code == 403
    page = browser.page(f"/accounts/of/{ONE}")
    assert "/refunds" not in page
    assert browser.send(page, f"/accounts/of/{ONE}/refunds", amount="1").status_code == 403


def test_a_payment_form_sent_twice_is_one_payment(site: Any, shop: Settings) -> None:
    browser = Browser(site, "agent44")
    page = browser.page(f"/accounts/of/{TWO}")
    key = re.search(r'name="key" value="([0-9a-f]+)"', page)
    assert key
    before = read(shop).ledger["cash"]
    fields = {"key": key[1], "amount": "1,006.50", "channel": "counter"}
    for _again in range(2):
        assert browser.send(page, f"/accounts/of/{TWO}/payments", **fields).status_code == 200
    assert read(shop).ledger["cash"] - before == Decimal("1006.50")
    shown = browser.page(f"/accounts/of/{TWO}")
    assert "900.50" in shown  # the deposit that is left
    with connect(shop) as connection:
        rows = connection.execute(
            "select username from identity.audit_log where action = 'take_payment'"
            " and detail ->> 'account' = %s",
            (TWO,),
        ).fetchall()
    assert rows == [("agent44",)]


@pytest.mark.parametrize("amount", [
    "0", "-5", "1.005", "abc", "NaN", "1e30", "", "1e2", "1,00", "10,00.5", ",100", "1,,000", "1_0",
    "１００", "+5", "1.", "1,0000",
])  # fmt: skip
def test_an_amount_that_is_none_is_refused_on_the_page(
    site: Any, shop: Settings, amount: str
) -> None:
    browser = Browser(site, "agent44")
    page = browser.page(f"/accounts/of/{TWO}")
    before = read(shop)
    answer = browser.send(
        page, f"/accounts/of/{TWO}/payments", key="k", amount=amount, channel="counter"
    )
    assert answer.status_code == 422
    assert "an amount is positive" in answer.text
    assert read(shop) == before


def test_a_form_without_its_token_takes_no_money(site: Any, shop: Settings) -> None:
    before = read(shop)
    answer = Browser(site, "agent44").client.post(
        f"/accounts/of/{TWO}/payments", data={"key": "x", "amount": "5", "channel": "counter"}
    )
    assert answer.status_code == 403
    assert read(shop) == before


def test_a_note_is_asked_for_by_an_agent_and_decided_by_finance(site: Any, shop: Settings) -> None:
    agent, finance = Browser(site, "agent44"), Browser(site, "finance")
    page = agent.page(f"/accounts/of/{ONE}")
    asked = agent.send(
        page, f"/accounts/of/{ONE}/notes", key="0abc", note_type="credit", amount="6.00",
        bill_item=f"2026-10-{ONE}/rent", reason_code="wrong_tariff", explanation="price",
    )  # fmt: skip
    assert "Credit note" in asked.text
    assert "Approve" not in agent.page("/accounts/notes")
    assert agent.send(page, "/accounts/notes/N-0abc", decision="approve").status_code == 403
    done = finance.send(finance.page("/accounts/notes"), "/accounts/notes/N-0abc",
                        decision="approve")  # fmt: skip
    assert done.status_code == 200
    assert read(shop).items[f"2026-10-{ONE}/rent"] == Decimal("46.00")


def test_a_debit_note_for_what_was_never_billed_is_chosen_in_words(
    site: Any, shop: Settings
) -> None:
    agent, finance = Browser(site, "agent44"), Browser(site, "finance")
    page = agent.page(f"/accounts/of/{TWO}")
    offered = dict(re.findall(r'<option value="/(\w+)">([^<]+)</option>', page))
    assert offered["penalty"] == "Contract penalty"
    assert "tax" not in offered
    # Each in words: none is shown by its code.
    assert [code for code, words in offered.items() if words == code] == []
    asked = {
        "key": "0aff", "amount": "10.90", "bill_item": "/penalty", "explanation": "left early",
        "reason_code": "missed_charge",
    }  # fmt: skip
    path = f"/accounts/of/{TWO}/notes"
    refused = agent.send(page, path, note_type="credit", **(asked | {
        "reason_code": "wrong_tariff"
    }))  # fmt: skip
    assert (refused.status_code, "names the bill" in refused.text) == (422, True)
    assert agent.send(page, path, note_type="debit", **asked).status_code == 200
    done = finance.send(finance.page("/accounts/notes"), "/accounts/notes/N-0aff",
                        decision="approve")  # fmt: skip
    assert done.status_code == 200
    with connect(shop) as connection:
        item = connection.execute(
            "select account_id, bill_id, bill_item_code, amount from billing.open_item"
            " where document_id = 'note:N-0aff'"
        ).fetchone()
    assert item == (TWO, None, "penalty", Decimal("10.90"))


def test_a_bank_file_is_imported_and_a_line_matched_on_the_page(site: Any, shop: Settings) -> None:
    browser = Browser(site, "finance")
    page = browser.page("/accounts/bank")
    content = as_mt940(statement(line("7.00", "", "WHO IS IT")))
    answer = browser.send(
        page, "/accounts/bank/files", files={"file": ("icbc.sta", content)}
    )  # fmt: skip
    assert "icbc.sta: 1 statements, 1 lines, 0 matched, 1 in suspense" in answer.text
    again = browser.send(page, "/accounts/bank/files", files={"file": ("icbc.sta", content)})
    assert "imported before" in again.text
    bad = browser.send(page, "/accounts/bank/files", files={"file": ("bad.sta", content[:90])})
    assert bad.status_code == 422
    assert "bad.sta is refused: line 1" in bad.text
    line_id = re.search(r'name="bank_line_id" value="([^"]+)"', answer.text)
    assert line_id
    matched = browser.send(
        page, "/accounts/bank/lines", bank_line_id=line_id[1], what="payment", target=THREE
    )
    assert "Every line is matched" in matched.text


def test_rest_takes_a_payment_once_by_its_key(site: Any, shop: Settings) -> None:
    with TestClient(site) as client:
        body = {"account_id": ONE, "amount": "5.00", "channel": "online"}
        assert client.post(PAYMENT, json=body).status_code == 401
        credentials: Any = {"auth": ("admin", "a password of this test")}
        keyed = credentials | {"headers": {"Idempotency-Key": "app/1"}}
        assert client.post(PAYMENT, json=body, **credentials).status_code == 400
        first = client.post(PAYMENT, json=body, **keyed)
        again = client.post(PAYMENT, json=body, **keyed)
        assert (first.status_code, first.json()) == (201, again.json())
        assert client.get(first.headers["location"], **credentials).json() == first.json()
        other = client.post(PAYMENT, json=body | {"amount": "6.00"}, **keyed)
        assert (other.status_code, "app/1" in other.json()["detail"]) == (409, True)
        for wrong in ("5.001", "-5", "5e3", 5.0):
            refused = client.post(PAYMENT, json=body | {"amount": wrong}, **keyed)
            assert refused.status_code == 422, wrong
        found = client.get(f"/api/accounts/v1/account/{ONE}", **credentials).json()
        assert json.dumps(found).count("e+") == 0
        with transaction(shop) as session:
            view = service.account_statement(
                session, principal=FINANCE, account_id=ONE, today=date(2026, 11, 25)
            )
        assert found["owed"] == {"unit": "CNY", "value": str(view.owed_amount)}


def test_rest_refuses_a_payment_of_the_future_or_of_before_the_first_cycle(
    site: Any, shop: Settings
) -> None:
    before = read(shop)
    now = datetime.now(UTC)
    with TestClient(site) as client:
        for paid_at, told in (
            (now + timedelta(minutes=30), "in the future"),
            (datetime(2026, 8, 31, 15, 59, tzinfo=UTC), "before the first billing cycle"),
            (datetime(1970, 1, 1, tzinfo=UTC), "before the first billing cycle"),
        ):  # fmt: skip
            answer = client.post(
                PAYMENT, auth=("admin", "a password of this test"),
                headers={"Idempotency-Key": f"time/{paid_at}"},
                json={"account_id": ONE, "amount": "5", "channel": "online",
                      "paid_at": paid_at.isoformat()},
            )  # fmt: skip
            assert (answer.status_code, told in answer.json()["detail"]) == (422, True)
    assert read(shop) == before


def test_a_security_deposit_is_taken_given_back_and_applied_on_the_page(
    site: Any, shop: Settings
) -> None:
    agent, finance = Browser(site, "agent44"), Browser(site, "finance")
    before = read(shop).ledger
    path = f"/accounts/of/{TWO}/security-deposits"
    page = agent.page(f"/accounts/of/{TWO}")
    for _again in range(2):
        answer = agent.send(
            page, path, key="sd1", amount="300", channel="counter", reference="R-77",
            reason_code="international_roaming", subscription_id="S0000002",
        )  # fmt: skip
        assert answer.status_code == 200
    ledger = read(shop).ledger
    assert ledger["cash"] - before["cash"] == -ledger["security_deposit"] == 300
    assert "R-77" in answer.text
    assert "International roaming" in answer.text
    assert "Give back" not in answer.text
    with connect(shop) as connection:
        (deposit_id,) = connection.execute(
            "select security_deposit_id from billing.security_deposit where account_id = %s", (TWO,)
        ).fetchone()  # type: ignore[misc]
    given = {"amount": "100", "channel": "bank", "reason_code": "no_longer_required"}
    assert agent.send(page, f"{path}/{deposit_id}/return", **given).status_code == 403
    assert agent.send(page, f"{path}/{deposit_id}/application", key="a").status_code == 403
    page = finance.page(f"/accounts/of/{TWO}")
    # Whether something is overdue by now, only the clock knows: a reason is given.
    done = finance.send(
        page, f"{path}/{deposit_id}/return", key="sd2", override_reason="x", **given
    )
    assert "received 300.00, given back 100.00, applied 0.00" in done.text
    wrong = finance.send(page, f"{path}/{deposit_id}/return", key="sd3", **(given | {
        "amount": "200.01", "override_reason": "x",
    }))  # fmt: skip
    assert (wrong.status_code, "200.00 CNY are held" in wrong.text) == (422, True)
    pay(shop, TWO, "9999.00", date(2026, 11, 1))
    wrong = finance.send(page, f"{path}/{deposit_id}/application", key="sd4", amount="")
    assert (wrong.status_code, "0.00 CNY of account" in wrong.text) == (422, True)
    shown = Browser(site, "finance", "zh").page(f"/accounts/of/{TWO}")
    for word in ("在押金额 200.00", "国际漫游押金", "退还押金"):
        assert word in shown
    log = Browser(site, "finance", "zh").page("/audit")
    assert "收取押金" in log


def test_a_prepaid_account_shows_balance_and_deductions(shop: Settings, site: Any) -> None:
    last = ACCOUNTS[3]
    with connect(shop) as connection:
        connection.execute(
            "update crm.subscription set payment_type = 'prepaid' where account_id = %s", (last,)
        )
    ensure_cycle(shop, "2026-11", shop.timezone)
    pay(shop, last, "50.00", date(2026, 11, 2))
    charges = {
        "account_id": [last], "cycle_id": ["2026-11"], "bill_item_code": ["data"],
        "amount": pa.array([Decimal("43.21")], pa.decimal128(18, 2)),
    }  # fmt: skip
    prepaid.deduct(shop, charges=pa.table(charges), by_user="test", today=date(2026, 11, 3))
    page = Browser(site, "finance").page(f"/accounts/of/{last}")
    assert "Prepaid balance 6.79" in page
    assert re.search(r'2026-11</td><td>[^<]+</td><td class="number">43.21</td>', page)
    assert "Deduction<small>charges rose</small>" in page
    credentials: Any = {"auth": ("admin", "a password of this test")}
    with TestClient(site) as client:
        path = f"/api/accounts/v1/account/{last}/balance"
        answer = client.get(path, **credentials).json()
    assert (answer["balance"]["value"], answer["standing"]) == ("6.79", "low")
    assert [row["amount"]["value"] for row in answer["movement"]] == ["-43.21", "50.00"]
    # an agent of another province does not see it
    assert Browser(site, "agent44").client.get(f"/accounts/of/{last}").status_code == 404


def test_a_share_is_entered_refused_and_ended_by_form_and_rest(shop: Settings, site: Any) -> None:
    with connect(shop) as connection:
        connection.execute(
            "update crm.customer set customer_type = 'household' where customer_id = 'C0000001'"
        )
    browser, path = Browser(site, "finance"), f"/accounts/of/{ONE}"
    fields = {
        "key": "share", "subscription_id": "S0000002", "share_percent": "50",
        "valid_from": "2026-11-01", "monthly_cap_amount": "30",
    }  # fmt: skip
    refused = browser.send(browser.page(path), f"{path}/responsibilities", **fields)
    assert refused.status_code == 422
    assert "add it to the group or household first" in refused.text
    page = browser.send(browser.page(path), f"{path}/members", customer_id="C0000002").text
    assert "C0000002" in page
    page = browser.send(page, f"{path}/responsibilities", **fields).text
    assert re.search(r"S0000002</a></td><td class=\"number\">50<", page)
    assert "Paid by other accounts" in browser.page(f"/accounts/of/{TWO}")
    ended = browser.send(page, f"{path}/responsibilities/PR-form:share", last_day="2026-11-30")
    assert "2026-11-30" in ended.text
    credentials: Any = {"auth": ("admin", "a password of this test")}
    asked = {
        "account_id": ONE, "subscription_id": "S0000002", "share_percent": "100",
        "valid_from": "2026-12-01", "bill_item_codes": ["rent"],
    }  # fmt: skip
    with TestClient(site) as client:
        base = "/api/accounts/v1"
        keyed = credentials | {"headers": {"Idempotency-Key": "rest/1"}}
        made = client.post(f"{base}/paymentResponsibility", json=asked, **keyed)
        assert (made.status_code, made.json()["billItemCodes"]) == (201, ["rent"])
        found = client.get(f"{base}/account/{ONE}/paymentResponsibility", **credentials).json()
        assert [row["sharePercent"] for row in found["paidFor"]] == ["50.000000", "100.000000"]


def test_a_debit_that_may_be_a_refund_is_offered_as_one(site: Any, shop: Settings) -> None:
    browser = Browser(site, "finance")
    pay(shop, FOUR, "5.43", date(2026, 12, 1))
    service.refund(
        shop, principal=FINANCE, account_id=FOUR, amount=Decimal("5.43"), channel="bank",
        reason_code="customer_asks", idempotency_key="refund/5.43", today=date(2026, 12, 1),
    )  # fmt: skip
    content = as_mt940(
        statement(line("-5.43", "", "OUT", 31), line("-5.44", "", "OUT", 32), number=31)
    )
    page = browser.page("/accounts/bank")
    answer = browser.send(page, "/accounts/bank/files", files={"file": ("out.sta", content)})
    assert "0 matched, 2 in suspense" in answer.text
    forms = re.findall(
        r'name="bank_line_id" value="([^"]+)".*?value="return".*?value="payment"( selected)?>'
        r'.*?name="target"[^>]* value="([^"]*)"', answer.text, re.DOTALL,
    )  # fmt: skip
    assert [form[1:] for form in forms] == [(" selected", FOUR), ("", "")]
    done = browser.send(
        page, "/accounts/bank/lines", bank_line_id=forms[0][0], what="payment", target=FOUR
    )
    assert (done.status_code, forms[0][0] in done.text) == (200, False)
    assert forms[1][0] in done.text
