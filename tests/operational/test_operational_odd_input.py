"""Forms meet odd input: what is typed may be refused, in words; it never breaks a page."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operational.app import create_app
from operational.i18n import messages
from operational.security import SESSION_COOKIE
from tests.operational.accounts_books import ACCOUNTS, connect, issue, pay
from tests.operational.accounts_books import books as new_books
from tests.operational.browser_forms import sent_fields
from tollhouse.settings import Settings

ONE, TWO, *_ = ACCOUNTS
EXAMPLES = 5  # of each form: a page takes its time
LONG = "".join(sha256(str(number).encode()).hexdigest() for number in range(150))  # no repetition

ODD = {
    "nothing": "", "blank": " \u3000 ", "zero": "0", "negative": "-1", "signed": "+1",
    "fraction": "0.001", "large": "9999999999999999.99", "too large": "9" * 400,
    "beyond the numbers of a database": str(2**63), "exponent": "1e5", "high exponent": "1e999999",
    "low exponent": "1e-999999", "no number": "NaN", "infinite": "Infinity", "underscore": "1_0",
    "full width": "１２", "full-width date": "２０２６-１２-０１", "Arabic digits": "١٢",
    "first day": "0001-01-01", "last day": "9999-12-31", "no such day": "2026-02-30",
    "year 0": "0000-00-00", "basic date": "20261201", "week date": "2026-W49-2", "a moment":
    "2026-12-01T00:00:00", "long": LONG, "long Chinese": "长" * 3000, "quotes": "'\"<b>&;--",
    "braces": "{0} {names} %s %(x)s", "controls": "a\x07\x1b\u202eb", "no character": "a\x00b",
    "lines": "a\r\nb", "wildcards": "%_\\", "commas": ",,，,", "slashes": "../../x/y",
    "emoji": "😀",
}  # fmt: skip


class Browser:
    """A signed-in browser that sends forms with their token and follows where they lead."""

    def __init__(self, site: Any, username: str = "finance", language: str = "en") -> None:
        self.client = TestClient(site, follow_redirects=False)
        signer = site.state.installation.signer
        self.client.cookies.set(SESSION_COOKIE, signer.dump(signer.new(username, 0)))
        self.client.get(f"/language/{language}")
        page = self.client.get("/catalogue").text
        self.token = re.findall(r'name="csrf_token" value="(\w+)"', page)[0]

    def send(self, path: str, fields: dict[str, str]) -> Any:
        return self.client.post(path, data={"csrf_token": self.token} | fields)


@pytest.fixture(scope="module")
def shop(books_host: Settings) -> Iterator[Settings]:
    """Books with bills, a payment and a note to decide."""
    with new_books(books_host) as settings:
        for cycle in ("2026-09", "2026-10"):
            issue(settings, cycle, {ONE: {"rent": Decimal(76)}, TWO: {"rent": Decimal(46)}})
        pay(settings, ONE, "500.00", date(2026, 10, 9))
        with connect(settings) as connection:
            for name in ("finance", "second"):
                connection.execute(
                    "insert into identity.app_user (username, password_hash, display_name, role,"
                    " province_code) select %s, password_hash, %s, 'admin', '00'"
                    " from identity.app_user where username = 'admin'",
                    (name, name),
                )
            connection.execute(
                "update crm.customer set customer_type = 'group' where customer_id = 'C0000001'"
            )
            connection.execute(
                "update crm.customer set parent_customer_id = 'C0000001'"
                " where customer_id = 'C0000002'"
            )
        yield settings


@pytest.fixture(scope="module")
def site(shop: Settings) -> Any:
    return create_app(shop)


@dataclass(frozen=True)
class Form:
    """Where a form goes, what is typed into it when all is well, and the page it is on."""

    path: str
    fields: dict[str, str]
    page: str = f"/accounts/of/{ONE}"


def tomorrow() -> str:
    return (datetime.now(UTC).date() + timedelta(days=2)).isoformat()


OF_ONE = f"/accounts/of/{ONE}"
FORMS = {
    "payment": Form(f"{OF_ONE}/payments", {
        "key": "UNIQUE", "amount": "1", "channel": "counter", "reference": "r"}),
    "refund": Form(f"{OF_ONE}/refunds", {
        "key": "UNIQUE", "amount": "1", "channel": "counter", "reason_code": "customer_asks"}),
    "reversal": Form(f"{OF_ONE}/reversals", {
        "payment_id": "none", "reason_code": "cheque_bounced"}),
    "bonus": Form(f"{OF_ONE}/bonuses", {
        "key": "UNIQUE", "amount": "1", "valid_to": "2042-01-01", "reason_code": "goodwill",
        "bill_item_codes": "rent"}),
    "security deposit": Form(f"{OF_ONE}/security-deposits", {
        "key": "UNIQUE", "subscription_id": "S0000001", "amount": "1", "channel": "counter",
        "reason_code": "international_roaming", "reference": "r"}),
    "return of a deposit": Form(f"{OF_ONE}/security-deposits/DEPOSIT/return", {
        "key": "UNIQUE", "amount": "0.01", "channel": "counter",
        "reason_code": "no_longer_required", "override_reason": "why"}),
    "application of a deposit": Form(f"{OF_ONE}/security-deposits/DEPOSIT/application", {
        "key": "UNIQUE", "amount": "0.01"}),
    "note": Form(f"{OF_ONE}/notes", {
        "key": "UNIQUE", "note_type": "debit", "bill_item": "/rent", "amount": "1",
        "reason_code": "missed_charge", "explanation": "why"}, "/accounts/notes"),
    "decision": Form("/accounts/notes/N-none", {"decision": "approve", "reason": "why"},
                     "/accounts/notes"),
    "responsibility": Form(f"{OF_ONE}/responsibilities", {
        "key": "UNIQUE", "subscription_id": "S0000002", "share_percent": "1",
        "monthly_cap_amount": "5", "valid_from": tomorrow(), "valid_to": "2042-01-01",
        "bill_item_codes": "rent"}),
    "end of a responsibility": Form(f"{OF_ONE}/responsibilities/PAYS", {
        "last_day": tomorrow()}),
    "member": Form(f"{OF_ONE}/members", {"customer_id": "C0000002"}),
    "bank line": Form("/accounts/bank/lines", {
        "bank_line_id": "none", "what": "payment", "target": ONE}, "/accounts/bank"),
    "order": Form("/orders", {
        "order_id": "UNIQUE", "customer_choice": "new", "customer_name": "n", "customer_type":
        "individual", "id_number": "1", "offering_id": "plan-4g-56", "province_code": "44",
        "msisdn": "8618600000001", "imsi": "46001000000099", "payment_type": "postpaid",
        "bill_language": "zh", "second_msisdn": "", "intent": "submit"}, "/orders"),
    "draft": Form("/orders", {
        "order_id": "UNIQUE", "customer_choice": "new", "customer_name": "n", "customer_type":
        "individual", "id_number": "1", "offering_id": "plan-4g-56", "province_code": "44",
        "msisdn": "8618600000001", "imsi": "46001000000099", "second_msisdn": "",
        "intent": "draft"}, "/orders"),
    "order of a customer": Form("/orders", {
        "order_id": "UNIQUE", "customer_choice": "existing", "customer_id": "C0000001",
        "account_id": ONE, "offering_id": "bundle-sample-4g-76-fixed", "province_code": "44",
        "msisdn": "8618600000001", "with_subscription_id": "S0000001", "intent": "submit",
        }, "/orders"),
    "bundle": Form("/subscriptions/S0000001/bundle", {
        "order_id": "UNIQUE", "offering_id": "bundle-sample-4g-76-fixed",
        "with_subscription_id": "S0000002"}, "/subscriptions/S0000001"),
    "status": Form("/subscriptions/S0000001/status", {"status": "active"},
                   "/subscriptions/S0000001"),
    "friend": Form("/subscriptions/S0000001/friend-numbers", {"number": "13812345678"},
                   "/subscriptions/S0000001"),
    "offering": Form("/catalogue/new-offering", {
        "offering_id": "UNIQUE", "offering_type": "addon", "sp_id": "", "content_id": "",
        "name_zh": "新品", "name_en": "New one", "valid_from": tomorrow(), "valid_to": "2042-01-01",
        "monthly_fee_amount": "5", "suspension_fee_amount": "1", "minimum_consumption_amount": "1",
        "first_month_rule": "whole", "calendar": "", "usage_prices.0.charge_class":
        "voice_domestic", "usage_prices.0.band": "", "usage_prices.0.model": "slots",
        "usage_prices.0.connection_fee_amount": "1", "usage_prices.0.rounding_digits": "2",
        "usage_prices.0.tiers.0.from_quantity": "0",
        "usage_prices.0.tiers.0.increment_quantity": "1 min",
        "usage_prices.0.tiers.0.price_amount": "1", "allowances.0.allowance": "free",
        "allowances.0.unit": "second", "allowances.0.size_quantity": "10 min",
        "allowances.0.priority": "1", "allowances.0.rollover_months": "1",
        "allowances.0.covers.0.charge_class": "voice_domestic", "discounts.0.discount": "d",
        "discounts.0.name_zh": "d", "discounts.0.name_en": "d", "discounts.0.kind": "percent",
        "discounts.0.value": "1", "one_off_prices.0.occasion": "join", "one_off_prices.0.amount":
        "1", "commitment.0.months": "1", "commitment.0.penalty_rule": "fixed",
        "commitment.0.penalty_value": "1", "reason": "why", "do": "save"}, "/catalogue"),
    "offering of a bundle": Form("/catalogue/new-offering", {
        "offering_id": "UNIQUE", "offering_type": "bundle", "name_zh": "新品", "name_en": "New one",
        "valid_from": tomorrow(), "monthly_fee_amount": "5",
        "components.0.component": "plan-4g-76", "components.0.fee_rule": "replaced",
        "components.0.fee_amount": "1", "components.1.component": "data-pack-100mb",
        "components.1.fee_rule": "own", "reason": "why", "do": "save"}, "/catalogue"),
    "version of a bundle": Form("/catalogue/bundle-sample-4g-76-fixed/new-version", {
        "former": "bundle-sample-4g-76-fixed@1", "seen": "", "valid_from": tomorrow(),
        "monthly_fee_amount": "5", "components.0.component": "plan-4g-76", "reason": "why",
        "do": "save"}, "/catalogue"),
    "withdrawal": Form("/catalogue/plan-4g-596/withdraw-version", {
        "former": "plan-4g-596@2", "seen": "", "reason": "why"}, "/catalogue/plan-4g-596"),
    "group": Form("/customers/C0000001/call-groups", {"name": "g"}, "/customers/C0000001"),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(site: Any, shop: Settings) -> dict[str, str]:
    """A deposit that is held and a share that is promised, for the forms about them."""
    browser = Browser(site)
    for name in ("security deposit", "responsibility"):
        more = {"amount": "900"} if name == "security deposit" else {}
        answer = send(browser, FORMS[name], {}, more)
        assert answer.status_code == 303, re.findall('role="alert">(.*?)<', answer.text)
    with connect(shop) as connection:
        (deposit,) = connection.execute(
            "select security_deposit_id from billing.security_deposit"
        ).fetchone()
        (share,) = connection.execute(
            "select payment_responsibility_id from billing.payment_responsibility"
        ).fetchone()
    return {"DEPOSIT": deposit, "PAYS": share}


@pytest.mark.parametrize("name", FORMS)
@settings(
    max_examples=EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_whatever_is_typed_a_form_answers_and_its_page_opens_again(
    site: Any, places: dict[str, str], name: str, data: st.DataObject
) -> None:
    form, browser = FORMS[name], Browser(site)
    typed = data.draw(
        st.dictionaries(st.sampled_from(sorted(form.fields)), st.sampled_from(sorted(ODD)),
                        min_size=1, max_size=2)
    )  # fmt: skip
    answer = send(browser, form, places, {at: ODD[kind] for at, kind in typed.items()})
    assert answer.status_code < 500
    told = re.search(r'role="alert"|class="wrong"|<h1', answer.text)
    assert answer.status_code == 303 or told
    assert browser.client.get(form.page).status_code == 200


def send(browser: Browser, form: Form, places: dict[str, str], typed: dict[str, str]) -> Any:
    path = form.path
    for place, identifier in places.items():
        path = path.replace(place, identifier)
    fields = {
        at: f"made-{uuid4().hex}" if value == "UNIQUE" else value
        for at, value in form.fields.items()
    }
    return browser.send(path, fields | typed)


@pytest.mark.parametrize(
    ("name", "typed", "told"),
    [
        ("responsibility", {"valid_to": "9999-12-31"}, "problem.day_out_of_range"),
        ("responsibility", {"valid_from": "0001-01-01"}, "problem.day_out_of_range"),
        ("end of a responsibility", {"last_day": "9999-12-31"}, "problem.day_out_of_range"),
        ("bonus", {"valid_to": "9999-12-31"}, "problem.day_out_of_range"),
        ("order", {"order_id": LONG}, "problem.order_id_wrong"),
        ("bundle", {"order_id": LONG}, "problem.order_id_wrong"),
        ("order", {"province_code": "４４"}, "order_error.province_code"),
        ("order", {"msisdn": "8６１８６０００００００１"}, "order_error.msisdn"),
        ("order", {"imsi": "４６００１００００００００９９"}, "order_error.imsi"),
        ("order", {"second_msisdn": "8６２０８５０００００１"}, "order_error.second_msisdn"),
    ],
)
def test_what_the_database_could_not_hold_is_refused_in_the_readers_language(
    site: Any, places: dict[str, str], name: str, typed: dict[str, str], told: str
) -> None:
    for language in ("zh", "en"):
        answer = send(Browser(site, language=language), FORMS[name], places, typed)
        assert answer.status_code == 422
        words = messages()[told][language]
        fixed = max(re.split(r"\{\w+\}", words), key=len).strip()
        assert fixed in html.unescape(answer.text)
        if "{names}" in words:  # the field by what pages call it
            (field,) = typed
            assert messages()[f"field.{field}"][language] in answer.text


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """The answers to what several clerks do in the same moment."""
    answers: list[Any] = [None] * len(acts)
    start = threading.Barrier(len(acts))

    def act(number: int) -> None:
        start.wait()
        answers[number] = acts[number]()

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in answers
    return answers


@pytest.mark.parametrize(
    ("name", "typed", "statuses"),
    [
        # The id is taken by the other: said at its field.
        ("offering", {"offering_id": "made-by-two"}, [303, 422]),
        ("order", {"msisdn": "8618500000001"}, [303, 409]),
        # Together more than is held.
        ("return of a deposit", {"amount": "500"}, [303, 422]),
        ("group", {"name": "by two"}, [303, 303]),
    ],
)
def test_of_two_clerks_at_once_one_is_told_what_the_other_did(
    site: Any, places: dict[str, str], name: str, typed: dict[str, str], statuses: list[int]
) -> None:
    browsers = [Browser(site, who) for who in ("finance", "second")]
    answers = at_once(*(
        lambda browser=browser: send(browser, FORMS[name], places, typed)  # type: ignore[misc]
        for browser in browsers
    ))  # fmt: skip
    assert sorted(answer.status_code for answer in answers) == statuses
    assert all(
        re.search(r'role="alert"|class="wrong"', answer.text)
        for answer in answers if answer.status_code > 303
    )  # fmt: skip


def test_of_two_versions_added_at_once_the_second_is_told_of_the_first(site: Any) -> None:
    path = "/catalogue/caller-id/new-version"
    acts = []
    for who, fee in (("finance", "11"), ("second", "12")):
        browser = Browser(site, who)
        sent = sent_fields(browser.client.get(path).text, path) | {
            "valid_from": tomorrow(), "monthly_fee_amount": fee, "reason": "why", "do": "save",
        }  # fmt: skip
        acts.append(lambda browser=browser, sent=sent: browser.send(path, sent))
    answers = sorted(at_once(*acts), key=lambda answer: int(answer.status_code))
    assert [answer.status_code for answer in answers] == [303, 409]
    assert "was added after" in answers[1].text
