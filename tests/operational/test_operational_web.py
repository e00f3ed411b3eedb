"""The pages, as people in their roles meet them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from operational import audit
from operational.billing import totals
from operational.billing.service import advance_cycle, ensure_cycle
from operational.crm.models import CustomerScore
from operational.crm.service import publish_scores
from operational.database import transaction
from operational.i18n import MissingMessageError
from operational.identity import service as identity
from operational.identity.service import SignInError, check_password
from operational.security import SESSION_COOKIE, SessionSigner
from tollhouse.services import web
from tollhouse.settings import Settings

Browser = Callable[..., TestClient]


def token(client: TestClient, path: str) -> str:
    return re.findall(r'name="csrf_token" value="(\w+)"', client.get(path).text)[0]


def order_fields(client: TestClient, **changes: str) -> dict[str, str]:
    """The fields of an order form as a browser sends them."""
    text = client.get("/orders/new").text
    return {
        "csrf_token": re.findall(r'name="csrf_token" value="(\w+)"', text)[0],
        "order_id": re.findall(r'name="order_id" value="([\w-]+)"', text)[0],
        "customer_choice": "new", "customer_name": "孙七", "customer_type": "individual",
        "customer_id": "", "id_number": "", "imsi": "", "offering_id": "plan-4g-76",
        "province_code": "44", "msisdn": re.findall(r'name="msisdn" value="(\d+)"', text)[0],
        "payment_type": "postpaid", "bill_language": "zh", "intent": "submit", "ending": "",
    } | changes  # fmt: skip


def test_healthz_says_ok(browser: Browser) -> None:
    answer = browser().get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok")


def test_health_has_one_path_and_the_service_asks_for_it(
    browser: Browser, operational: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(web, "answers", lambda url: asked.append(url) or True)
    assert web.web_service(operational).is_healthy()
    assert [urlsplit(url).path for url in asked] == ["/healthz"]
    assert browser().get("/health").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/", "/customers", "/customers/C0000001", "/orders", "/orders/new", "/cycles", "/files",
     "/catalogue", "/agreements", "/users", "/audit", "/bills/x", "/subscriptions/S0000001"],
)  # fmt: skip
def test_a_page_asks_a_stranger_to_sign_in(browser: Browser, path: str) -> None:
    answer = browser().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/sign-in?after={path}"


def test_htmx_is_sent_to_the_sign_in_page_when_the_session_is_over(browser: Browser) -> None:
    answer = browser().get("/customers", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/sign-in")


def test_a_wrong_password_is_refused_and_noted(browser: Browser, psql: Any) -> None:
    client = browser()
    fields = {"username": "agent44", "password": "wrong", "csrf_token": token(client, "/sign-in")}
    answer = client.post("/sign-in", data=fields)
    assert answer.status_code == 401
    assert client.get("/customers").status_code == 303
    with psql() as connection:
        noted = connection.execute(
            "select count(*) from identity.audit_log"
            " where action = 'sign_in_refused' and entity_id = 'agent44'"
        ).fetchone()
    assert noted[0] >= 1


def test_ten_wrong_passwords_bar_the_user_for_a_while(
    browser: Browser, operational: Settings, psql: Any
) -> None:
    with psql() as connection:
        connection.execute(
            "insert into identity.app_user (username, password_hash, display_name, role,"
            " province_code) select 'barred', password_hash, 'x', 'agent', '44'"
            " from identity.app_user where username = 'admin'"
        )
        connection.execute(
            "insert into identity.audit_log (username, action, entity_type, entity_id,"
            " province_code) select 'barred', 'sign_in_refused', 'app_user', 'barred', '44'"
            " from generate_series(1, 10)"
        )
    client = browser()
    fields = {
        "username": "barred", "password": "tollhouse", "csrf_token": token(client, "/sign-in"),
    }  # fmt: skip
    assert client.post("/sign-in", data=fields).status_code == 401


def add_user(psql: Any, username: str, role: str, province_code: str) -> None:
    """A user with the password of the demo users."""
    with psql() as connection:
        connection.execute(
            "insert into identity.app_user (username, password_hash, display_name, role,"
            " province_code) select %s, password_hash, 'x', %s, %s"
            " from identity.app_user where username = 'admin' on conflict do nothing",
            (username, role, province_code),
        )


def test_trying_while_barred_does_not_make_the_bar_longer(
    operational: Settings, psql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(psql, "barred-once", "agent", "44")
    with psql() as connection:
        connection.execute(
            "insert into identity.audit_log (username, action, entity_type, entity_id,"
            " province_code, at) select 'barred-once', 'sign_in_refused', 'app_user',"
            " 'barred-once', '44', now() - interval '5 minutes' from generate_series(1, 10)"
        )
    known = {"username": "barred-once", "password": "tollhouse"}
    for _ in range(11):
        with pytest.raises(SignInError):
            check_password(operational, **known | {"password": "wrong"})
    with pytest.raises(SignInError):
        check_password(operational, **known)
    # As it will be once the ten refusals are too old, but not yet the tries while barred.
    monkeypatch.setattr(identity, "_REFUSAL_WINDOW", timedelta(minutes=4))
    assert check_password(operational, **known).username == "barred-once"


def test_passwords_are_kept_as_argon2_hashes(psql: Any, operational: Settings) -> None:
    with psql() as connection:
        hashes = connection.execute("select password_hash from identity.app_user").fetchall()
    assert hashes
    assert all(value.startswith("$argon2id$") for (value,) in hashes)


def test_a_forged_or_foreign_session_cookie_is_worth_nothing(browser: Browser) -> None:
    foreign = SessionSigner(Settings(secret_key="another installation's key"))
    client = browser()
    client.cookies.set(SESSION_COOKIE, foreign.dump(foreign.new("admin")))
    assert client.get("/customers").status_code == 303


def test_signing_in_makes_a_new_session_and_signing_out_ends_it(browser: Browser) -> None:
    client = browser()
    before = token(client, "/sign-in")
    client.post(
        "/sign-in", data={"username": "admin", "password": "tollhouse", "csrf_token": before}
    )
    after = token(client, "/")
    assert after != before
    assert client.post("/sign-out", data={"csrf_token": after}).status_code == 303
    assert client.get("/customers").status_code == 303


def test_a_cookie_copied_before_signing_out_is_worth_nothing_afterwards(
    browser: Browser, psql: Any
) -> None:
    add_user(psql, "leaver", "agent", "44")
    client, thief = browser(), browser()
    fields = {
        "username": "leaver", "password": "tollhouse", "csrf_token": token(client, "/sign-in"),
    }  # fmt: skip
    assert client.post("/sign-in", data=fields).status_code == 303
    thief.cookies.set(SESSION_COOKIE, client.cookies[SESSION_COOKIE])
    assert thief.get("/customers").status_code == 200
    sent = {"csrf_token": token(client, "/")}
    assert client.post("/sign-out", data=sent).status_code == 303
    assert thief.get("/customers").status_code == 303
    fields["csrf_token"] = token(client, "/sign-in")
    assert client.post("/sign-in", data=fields).status_code == 303
    assert client.get("/customers").status_code == 200
    # Nor can the old cookie end the new session.
    thief.post("/sign-out", data=sent)
    assert client.get("/customers").status_code == 200


def test_a_form_that_is_refused_leads_back_to_its_page_and_nowhere_else(browser: Browser) -> None:
    client, page = browser("admin", "en"), "/subscriptions/S0000001"
    sent = {"csrf_token": token(client, page), "number": "no number"}
    for came_from, leads_back in ((page, True), ("//elsewhere.example/", False)):
        answer = client.post(f"{page}/friend-numbers", data=sent | {"page_of_form": came_from})
        assert answer.status_code == 422
        assert (f'href="{page}"' in answer.text) == leads_back
        assert "elsewhere" not in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/customers/C9999999", "/customers/new/x/y"])
def test_what_is_not_there_is_said_within_the_pages_of_the_user(
    browser: Browser, path: str
) -> None:
    answer = browser("agent44", "en").get(path)
    assert (answer.status_code, "Not found" in answer.text) == (404, True)
    assert 'href="/orders"' in answer.text  # the menu
    assert 'href="/users"' not in answer.text  # as the role has it
    stranger = browser().get("/nothing")
    assert stranger.status_code == 404
    assert 'href="/orders"' not in stranger.text


@pytest.mark.parametrize(
    ("language", "action", "entity"),
    [("zh", "登录被拒", "操作员"), ("en", "Sign-in refused", "User")],
)
def test_the_audit_log_says_in_words_what_was_done_to_what(
    browser: Browser, operational: Settings, language: str, action: str, entity: str
) -> None:
    with pytest.raises(SignInError):
        check_password(operational, username="agent44", password="wrong")
    text = browser("admin", language).get("/audit").text
    row = next(row for row in text.split("<tr>") if "sign_in_refused" in row)
    assert f"<td>{action}<small" in row
    assert f"<td>{entity} <span" in row
    assert "agent44" in row


def test_what_the_pages_have_no_word_for_is_not_noted(operational: Settings) -> None:
    with transaction(operational) as session:
        for wrong in ({"action": "fly"}, {"entity_type": "kite"}):
            what = {"action": "sign_in", "entity_type": "app_user"} | wrong
            with pytest.raises(MissingMessageError):
                audit.record(session, username="x", entity_id="x", province_code="00", **what)


def test_an_administrator_of_a_province_sees_its_users_only(browser: Browser, psql: Any) -> None:
    add_user(psql, "admin44", "admin", "44")
    add_user(psql, "agent11", "agent", "11")
    text = browser("admin44").get("/users").text
    assert "agent44" in text
    assert "agent11" not in text
    assert "finance" not in text
    everybody = browser("admin").get("/users").text
    assert "agent11" in everybody
    assert "agent44" in everybody


WRONG_PARAMETERS = [
    ("/customers?start=x", "start"), ("/orders?start=1.5", "start"), ("/files?start=", "start"),
    (f"/customers?start={10**30}", "start"), ("/customers?q=a%00b", "q"),
    ("/customers/C%000001", "客户编号/Customer id"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "name"), WRONG_PARAMETERS)
def test_a_parameter_that_makes_no_sense_gets_a_page_in_the_language_of_the_reader(
    browser: Browser, path: str, name: str
) -> None:
    chinese, _, english = name.rpartition("/")
    for language, words in (
        ("zh", ("请求有误", f"参数的值无效：{chinese or name}")),
        ("en", ("The request is not valid", f"not a valid value of: {english}")),
    ):
        answer = browser("admin", language).get(path)
        assert answer.status_code == 422
        assert answer.headers["content-type"].startswith("text/html")
        assert all(word in answer.text for word in words)
        assert "系统管理员" in answer.text


@pytest.fixture
def scored(operational: Settings) -> Iterator[None]:
    """Of the customers in Guangdong, one as likely to leave as can be, one as unlikely."""
    rows = [
        {
            "subscription_id": f"S{number:07d}", "account_id": f"A{number:07d}",
            "customer_id": f"C{number:07d}", "province_code": "44",
            "churn_probability": probability, "churn_decile": decile, "churn_reasons": "[]",
            "value_amount": Decimal("120.00"), "value_segment": "high",
            "value_at_risk_amount": Decimal("60.00") * number, "model_version": "churn-1",
            "data_cut_off": date(2026, 10, 31), "run_id": "r",
        }
        for number, decile, probability in ((1, 1, 0.9), (2, 10, 0.01))
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    publish_scores(operational, table)
    yield
    publish_scores(operational, table.slice(0, 0))


@pytest.mark.usefixtures("scored")
def test_the_first_decile_is_warned_of_and_the_last_is_not(browser: Browser) -> None:
    client = browser("agent44", "en")
    risky = client.get("/customers/C0000001").text
    assert 'class="card warning high"' in risky
    assert "decile 1 (1 is highest)" in risky
    assert 'class="card warning' not in client.get("/customers/C0000002").text
    assert "（1 为最高）" in browser("agent44").get("/customers/C0000001").text

    risky = client.get("/subscriptions/S0000001").text
    assert "<h2>Churn warning</h2>" in risky
    assert 'class="notice bad"' in risky
    calm = client.get("/subscriptions/S0000002").text
    assert "<h2>Churn score</h2>" in calm
    assert "decile 10 (1 is highest)" in calm
    assert 'class="notice' not in calm

    first_page = client.get("/").text
    assert "/customers/C0000001" in first_page
    assert "/customers/C0000002" not in first_page


@pytest.mark.parametrize(("decile", "warns", "highest"), [
    (1, True, True), (2, True, False), (3, True, False), (4, False, False), (10, False, False),
])  # fmt: skip
def test_the_first_three_deciles_are_warned_of(decile: int, warns: bool, highest: bool) -> None:
    score = CustomerScore(churn_decile=decile)
    assert (score.is_warning, score.is_highest) == (warns, highest)


def test_every_form_is_refused_without_the_token_of_its_session(
    browser: Browser, application: Any
) -> None:
    client = browser("admin")
    stranger = token(browser(), "/sign-in")
    posts = {
        path
        for router in _routers(application)
        for route in router
        if isinstance(route, APIRoute) and "POST" in route.methods
        for path in [re.sub(r"\{\w+\}", "x", route.path)]
        if not path.startswith(("/tmf-api", "/api"))
    }
    assert {"/sign-in", "/sign-out", "/orders", "/cycles/x/state"} <= posts
    for path in sorted(posts):
        for sent in ({}, {"csrf_token": ""}, {"csrf_token": stranger}, {"csrf_token": "é"}):
            assert client.post(path, data=sent).status_code == 403, path


def _routers(application: Any) -> list[list[Any]]:
    from operational import app  # noqa: PLC0415 - the rooms as the application mounts them

    return [room.router.routes for room in app._ROOMS]


def test_an_agent_sees_the_own_province_only(browser: Browser) -> None:
    client = browser("agent44")
    listed = client.get("/customers").text
    assert "C0000001" in listed
    assert "C0000003" not in listed
    assert "C0000003" not in client.get("/customers", params={"q": "张敏"}).text
    assert client.get("/customers/C0000001").status_code == 200
    assert client.get("/customers/C0000003").status_code == 404
    assert client.get("/subscriptions/S0000003").status_code == 404
    assert client.get("/orders/numbers", params={"province_code": "11"}).status_code == 404


def test_headquarters_sees_all_provinces(browser: Browser) -> None:
    listed = browser("admin").get("/customers").text
    assert all(customer in listed for customer in ("C0000001", "C0000003", "C0000004"))


@pytest.mark.parametrize("query", ["王伟", "18600000001", "8618600000001", "C0000001", "a0000001",
                                   "s0000001", "4401011980010100 01".replace(" ", "")])  # fmt: skip
def test_a_customer_is_found_by_name_number_and_id(browser: Browser, query: str) -> None:
    rows = browser("admin").get("/customers", params={"q": query}, headers={"HX-Request": "1"}).text
    assert "C0000001" in rows
    assert "C0000002" not in rows
    assert "<html" not in rows


def test_an_analyst_sees_no_personal_data_and_cannot_search_for_it(browser: Browser) -> None:
    client = browser("analyst")
    for path in ("/customers", "/customers/C0000001", "/subscriptions/S0000001"):
        text = client.get(path).text
        assert "王伟" not in text
        assert "8618600000001" not in text
        assert "440101198001010001" not in text
    rows = {"headers": {"HX-Request": "1"}}
    assert "C0000001" not in client.get("/customers", params={"q": "王伟"}, **rows).text
    assert "C0000001" in client.get("/customers", params={"q": "C0000001"}, **rows).text


def test_an_identity_number_is_never_shown_whole(browser: Browser) -> None:
    text = browser("admin").get("/customers/C0000001").text
    assert "440101********0001" in text
    assert "440101198001010001" not in text


@pytest.mark.parametrize(
    ("username", "path", "status"),
    [
        ("operator", "/files", 200), ("operator", "/customers", 403),
        ("agent44", "/files", 403), ("agent44", "/orders/new", 200), ("agent44", "/users", 403),
        ("finance", "/cycles", 200), ("finance", "/orders/new", 403), ("finance", "/audit", 200),
        ("analyst", "/catalogue/plan-4g-76", 200), ("analyst", "/audit", 403),
        ("admin", "/users", 200), ("admin", "/agreements", 200), ("operator", "/", 200),
    ],
)  # fmt: skip
def test_a_page_opens_for_the_roles_that_need_it(
    browser: Browser, username: str, path: str, status: int
) -> None:
    assert browser(username).get(path).status_code == status


def test_the_order_form_creates_a_subscription(browser: Browser, psql: Any) -> None:
    client = browser("agent44")
    fields = order_fields(client)
    answer = client.post("/orders", data=fields)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/orders/{fields['order_id']}"
    with psql() as connection:
        found = connection.execute(
            "select cus.name, sub.status from crm.subscription as sub"
            " join crm.account as acc on acc.account_id = sub.account_id"
            " join crm.customer as cus on cus.customer_id = acc.customer_id"
            " where sub.msisdn = %s",
            (fields["msisdn"],),
        ).fetchall()
    assert found == [("孙七", "active")]
    assert "已竣工" in client.get(answer.headers["location"]).text
    assert client.post("/orders", data=fields).status_code == 303
    assert fields["msisdn"] not in client.get("/orders/new").text


def test_the_order_form_names_what_is_wrong_and_keeps_what_was_filled_in(
    browser: Browser,
) -> None:
    client = browser("agent44", "en")
    answer = client.post("/orders", data=order_fields(client, customer_name="", id_number="4401"))
    assert answer.status_code == 422
    assert "Choose a customer or give the name of a new one" in answer.text
    assert 'value="4401"' in answer.text
    answer = client.post("/orders", data=order_fields(client, imsi="12"))
    assert answer.status_code == 422
    assert "An IMSI has 14 or 15 digits." in answer.text
    assert 'value="孙七"' in answer.text
    taken = order_fields(client, msisdn="8618600000001")
    answer = client.post("/orders", data=taken)
    assert answer.status_code == 409
    assert "is assigned; choose another number" in answer.text


def test_a_draft_is_submitted_later_from_its_page(browser: Browser) -> None:
    client = browser("agent44")
    fields = order_fields(client, intent="draft")
    page = client.post("/orders", data=fields).headers["location"]
    assert "草稿" in client.get(page).text
    client.post(f"{page}/submit", data={"csrf_token": token(client, page)})
    assert "订单已竣工" in client.get(page).text


def test_finance_takes_a_cycle_from_trial_to_final_where_its_totals_tie(
    browser: Browser, operational: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_cycle(operational, "2024-05", "Asia/Shanghai")
    for state in ("cut_off", "trial"):
        advance_cycle(operational, "2024-05", state, "test", "test")
    client = browser("finance")
    page = "/cycles/2024-05"
    early = {"csrf_token": token(client, page), "to_state": "final", "reason": "zu früh"}
    assert client.post(f"{page}/state", data=early).status_code == 409
    approved = {"csrf_token": token(client, page), "to_state": "approved", "reason": "why not"}
    answer = client.post(f"{page}/state", data=approved)  # no warehouse: no totals that tie
    assert (answer.status_code, "数据仓库现在无法读取" in answer.text) == (409, True)
    monkeypatch.setattr(totals, "require_tied", lambda settings, cycle_id: None)
    for state in ("approved", "final"):
        sent = {"csrf_token": token(client, page), "to_state": state, "reason": "totals tie"}
        assert client.post(f"{page}/state", data=sent).status_code == 303
    text = client.get(page).text
    assert "该帐期已定稿" in text
    assert "totals tie" in text
    assert 'name="to_state"' not in text


def test_an_analyst_cannot_decide_on_a_cycle(browser: Browser, operational: Settings) -> None:
    ensure_cycle(operational, "2042-06", "Asia/Shanghai")
    client = browser("analyst")
    assert 'name="to_state"' not in client.get("/cycles/2042-06").text
    sent = {"csrf_token": token(client, "/"), "to_state": "cut_off", "reason": "x"}
    assert client.post("/cycles/2042-06/state", data=sent).status_code == 403


def test_the_language_is_chinese_until_another_is_chosen_and_then_kept(browser: Browser) -> None:
    client = browser()
    client.cookies.clear()
    assert "用户名" in client.get("/sign-in").text
    answer = client.get("/language/en", params={"after": "/sign-in"})
    assert answer.headers["location"] == "/sign-in"
    assert "User name" in client.get("/sign-in").text
    assert 'lang="en"' in client.get("/sign-in").text


@pytest.mark.parametrize("address", ["https://example.org/", "//example.org", "/\\example.org"])
def test_nobody_is_sent_to_another_site(browser: Browser, address: str) -> None:
    answer = browser().get("/language/en", params={"after": address})
    assert answer.headers["location"] == "/"


def test_text_that_people_entered_is_escaped(browser: Browser) -> None:
    client = browser("agent44")
    fields = order_fields(client, customer_name="<script>alert(1)</script>")
    page = client.post("/orders", data=fields).headers["location"]
    text = client.get(page).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_pages_load_nothing_from_elsewhere_and_say_so(browser: Browser) -> None:
    client = browser("admin")
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    loaded = re.findall(r'(?:src|href)="((?:https?:)?//[^"]+)"', answer.text)
    assert loaded == []
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
        assert client.get(path).status_code == 200
    assert "style=" not in answer.text


def test_cookies_are_not_for_scripts_and_not_for_other_sites(browser: Browser) -> None:
    client = browser()
    client.cookies.clear()
    cookie = client.get("/sign-in").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
