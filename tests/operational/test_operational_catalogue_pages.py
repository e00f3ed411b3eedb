"""The pages of the catalogue: tariffs in words, and the form for a new version."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient

from operational.catalogue.authoring import Measure, UsagePriceRow
from operational.catalogue.content import tier_values
from operational.catalogue.findings import Finding
from operational.catalogue.models import PriceTier, UsagePrice
from operational.catalogue.service import (
    SAMPLE_CATALOGUE,
    CatalogueError,
    charge_classes,
    load_catalogue,
    load_sample,
)  # fmt: skip
from operational.catalogue.wording import Wording
from operational.database import transaction
from operational.i18n import messages, translator
from tests.operational.browser_forms import sent_fields
from tollhouse.settings import Settings

Browser = Callable[..., TestClient]
ZONE = "Asia/Shanghai"
FORM = "/catalogue/plan-4g-596/new-version"


@pytest.fixture
def untouched(psql: Any) -> Iterator[None]:
    """Takes out the versions that a test adds to a plan, and opens the one in force again."""
    yield
    with psql() as connection:
        connection.execute("set session_replication_role = replica")  # past the guards
        for table, key, owner in (
            ("price_step", "usage_price_id", "usage_price"),
            ("price_tier", "usage_price_id", "usage_price"),
            ("allowance_coverage", "allowance_id", "allowance"),
        ):
            connection.execute(
                f"delete from catalogue.{table} where {key} in (select {key} from"
                f" catalogue.{owner} where plan_version_id ~ '^plan-4g-596@([3-9]|1[0-9])$')"
            )
        for table in ("usage_price", "allowance", "price_plan_version"):
            connection.execute(
                f"delete from catalogue.{table}"
                " where plan_version_id ~ '^plan-4g-596@([3-9]|1[0-9])$'"
            )
        connection.execute(
            "update catalogue.price_plan_version set valid_to = null, used_at = null"
            " where plan_version_id = 'plan-4g-596@2'"
        )


def fields(client: TestClient, **changes: str) -> dict[str, str]:
    """The form as a browser sends it: every input with what stands in it, to be saved."""
    found = sent_fields(client.get(FORM).text, FORM)
    assert set(changes) <= {*found, "valid_from", "reason"}, found
    return found | {"do": "save"} | changes


def next_month() -> str:
    return (datetime.now(UTC) + timedelta(days=40)).date().isoformat()


def price_field(client: TestClient, charge_class: str) -> str:
    """The name of the input of a class's price."""
    found = sent_fields(client.get(FORM).text, FORM)
    name = next(name for name, value in found.items()
                if name.endswith(".charge_class") and value == charge_class)  # fmt: skip
    return name.replace(".charge_class", ".tiers.0.price_amount")


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/catalogue", {"zh": "家庭共享流量包4GB", "en": "Family data 4 GB"}),
        ("/catalogue?kind=addon", {"zh": "来电显示", "en": "Caller ID"}),
        ("/catalogue/calendars", {"zh": "夜间与周末", "en": "Nights and weekends"}),
        (
            "/catalogue/plan-night-weekend",
            {
                "zh": "前 3 分钟：0.25 元/分钟，不足 1 分钟按 1 分钟计",
                "en": "first 3 min: 0.25 per min, every started 1 min counts as 1 min",
            },
        ),
        (
            "/catalogue/3g-card-80",
            {"zh": "其后免费", "en": "700 MB – 2 GB: free"},
        ),
        (
            "/catalogue/plan-4g-76",
            {
                "zh": "每 1 GB 重新累计",
                "en": "first 200 MB: 0.30 per MB, every started 1 MB counts as 1 MB",
            },
        ),
        (
            "/catalogue/data-pack-1gb?version=2",
            {"zh": "未用部分结转 1 个月", "en": "unused units carried over 1 month(s)"},
        ),
    ],
)  # fmt: skip
def test_tariffs_are_read_as_text(
    browser: Browser, path: str, shown: dict[str, str], language: str
) -> None:
    answer = browser("analyst", language).get(path)
    assert answer.status_code == 200
    assert shown[language] in answer.text


def test_another_version_is_a_page_of_its_own(browser: Browser) -> None:
    client = browser("analyst", "en")
    old = client.get("/catalogue/data-pack-1gb?version=1").text
    assert "data-pack-1gb@1</span> · ended" in old
    assert "carried over" not in old
    assert "data-pack-1gb@2</span> · in force" in client.get("/catalogue/data-pack-1gb").text
    assert client.get("/catalogue/data-pack-1gb?version=9").status_code == 404


@pytest.mark.usefixtures("untouched")
def test_a_new_version_copies_the_former_and_ends_it(browser: Browser, psql: Any) -> None:
    client = browser("finance", "en")
    begins = next_month()
    field = price_field(client, "voice_domestic")
    answer = client.post(
        FORM,
        data=fields(client, monthly_fee_amount="566", valid_from=begins, reason="autumn offer")
        | {field: "0.12", "allowances.0.size_quantity": "12 GB"},
    )
    assert (answer.status_code, answer.headers.get("location")) == (
        303, "/catalogue/plan-4g-596?version=3",
    )  # fmt: skip
    with psql() as connection:
        versions = connection.execute(
            "select version_number, monthly_fee_amount,"
            " (valid_from at time zone 'Asia/Shanghai')::text,"
            " (valid_to at time zone 'Asia/Shanghai')::text"
            " from catalogue.price_plan_version where offering_id = 'plan-4g-596' order by 1"
        ).fetchall()
        changed = connection.execute(
            """
            select coalesce(old.usage_price_id, new.usage_price_id), old.price_amount,
                new.price_amount
            from catalogue.price_tier as old
            full join catalogue.price_tier as new
                on new.usage_price_id = replace(old.usage_price_id, '@2/', '@3/')
                and new.tier_number = old.tier_number
            where (old.usage_price_id like 'plan-4g-596@2/%'
                or new.usage_price_id like 'plan-4g-596@3/%')
                and old.price_amount is distinct from new.price_amount
            """
        ).fetchall()
        (detail, who) = connection.execute(
            "select detail, username from identity.audit_log where action = 'add_plan_version'"
            " order by id desc limit 1"
        ).fetchone()
    assert versions == [
        (1, Decimal(596), "2014-03-18 00:00:00", "2015-10-01 00:00:00"),
        (2, Decimal(596), "2015-10-01 00:00:00", f"{begins} 00:00:00"),
        (3, Decimal(566), f"{begins} 00:00:00", None),
    ]
    assert changed == [("plan-4g-596@2/voice_domestic", Decimal("0.15"), Decimal("0.12"))]
    assert (who, detail["reason"], len(detail["changes"])) == ("finance", "autumn offer", 3)
    page = client.get("/catalogue/plan-4g-596?version=3").text
    assert "to come" in page
    assert "0.12 per min" in page


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"monthly_fee_amount": "566", "reason": ""}, 422, "give a reason"),
        ({}, 422, "nothing is changed"),
        ({"monthly_fee_amount": "-1"}, 422, "@3: Monthly fee must not be negative"),
        ({"monthly_fee_amount": "0.1234567"}, 422, "more than 6 decimals"),
        ({"monthly_fee_amount": "cheap"}, 422, "cheap is not a number"),
        ({"allowances.0.size_quantity": "0"}, 422, "Size is more than zero"),
        ({"allowances.0.size_quantity": "10 min"}, 422, "in time, but counts data volume"),
        ({"monthly_fee_amount": "566", "valid_from": "2020-01-01"}, 422, "begins on"),
        ({"monthly_fee_amount": "566", "valid_from": "tomorrow"}, 422, "Valid from"),
        ({"monthly_fee_amount": "566", "former": "plan-4g-596@0"}, 409, "then begin again"),
    ],
)
def test_a_form_with_a_fault_says_which_and_saves_nothing(
    browser: Browser, psql: Any, changes: dict[str, str], status: int, told: str
) -> None:
    client = browser("admin", "en")
    sent = fields(client, valid_from=next_month(), reason="try") | changes
    answer = client.post(FORM, data=sent)
    assert (answer.status_code, told in answer.text) == (status, True), answer.text[:3000]
    if status == 422 and "monthly_fee_amount" in changes:
        assert f'value="{changes["monthly_fee_amount"]}"' in answer.text  # what was typed is kept
    with psql() as connection:
        assert connection.execute(
            "select count(*) from catalogue.price_plan_version where offering_id = 'plan-4g-596'"
        ).fetchone() == (2,)


@pytest.mark.parametrize(
    ("finding", "technical", "english", "chinese"),
    [
        (
            Finding("suspension_above_fee", (("version", "x@2"),), values={
                "field": "suspension_fee_amount", "other_field": "monthly_fee_amount",
            }),
            "version x@2: suspension_fee_amount is more than monthly_fee_amount",
            "version x@2: Fee while suspended is more than Monthly fee",
            "版本 x@2: 停机保号费 大于 月费（元）",
        ),
        (
            Finding("field_negative", (("price", "voice_domestic/night"), ("tier", "1")), values={
                "field": "price_amount", "value": "-1",
            }),
            "price voice_domestic/night, tier 1: price_amount must not be negative: -1",
            "price Domestic calls, night, tier 1: Price must not be negative: -1",
            "价格 国内语音主叫, 夜间, 档 1: 单价 不能为负，现为 -1",
        ),
        (
            Finding("field_negative", (("discount", "loyal"),), values={
                "field": "value", "value": "-1",
            }),
            "discount loyal: value must not be negative: -1",
            "discount loyal: Value must not be negative: -1",
            "优惠 loyal: 数值 不能为负，现为 -1",
        ),
    ],
    ids=["version", "price", "discount"],
)  # fmt: skip
def test_a_page_calls_fields_by_their_labels_and_a_command_by_their_names(
    finding: Finding, technical: str, english: str, chinese: str
) -> None:
    assert finding.text(translator("en")) == technical
    assert finding.page_text(translator("en")) == english
    assert finding.page_text(translator("zh")) == chinese


@pytest.mark.usefixtures("untouched")
def test_the_form_sent_twice_adds_one_version(browser: Browser) -> None:
    client = browser("admin", "en")
    sent = fields(client, monthly_fee_amount="566", valid_from=next_month(), reason="once")
    assert [client.post(FORM, data=sent).status_code for _ in range(2)] == [303, 409]


@pytest.mark.usefixtures("untouched")
def test_preparing_again_leaves_a_version_that_was_added_in_the_form_alone(
    browser: Browser, operational: Settings
) -> None:
    add_mistake(browser("admin", "en"), next_month())
    with pytest.raises(CatalogueError, match="plan-4g-596@3"):
        load_catalogue(operational, SAMPLE_CATALOGUE)
    assert load_sample(operational) == {}


REPLACE = "/catalogue/plan-4g-596/replace-version"
WITHDRAW = "/catalogue/plan-4g-596/withdraw-version"


def versions(psql: Any) -> list[tuple[int, Decimal, str, str | None]]:
    """Number, fee, first day and end of the versions of the form's plan that are not over."""
    with psql() as connection:
        return list(
            connection.execute(
                "select version_number, monthly_fee_amount,"
                " (valid_from at time zone 'Asia/Shanghai')::date::text,"
                " (valid_to at time zone 'Asia/Shanghai')::date::text"
                " from catalogue.price_plan_version where offering_id = 'plan-4g-596'"
                " and version_number > 1 order by 1"
            ).fetchall()
        )


def day_in(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def end_version_in_force(psql: Any, day: str) -> None:
    with psql() as connection:
        connection.execute(
            "update catalogue.price_plan_version"
            " set valid_to = %s::timestamp at time zone 'Asia/Shanghai'"
            " where plan_version_id = 'plan-4g-596@2'",
            (day,),
        )


def add_mistake(client: TestClient, begins: str) -> None:
    sent = fields(client, monthly_fee_amount="5666", valid_from=begins, reason="a slip")
    assert client.post(FORM, data=sent).status_code == 303


def withdrawal(client: TestClient) -> dict[str, str]:
    """The withdrawal as a browser sends it."""
    text = client.get("/catalogue/plan-4g-596").text
    return dict(re.findall(r'<input[^>]*name="([\w-]+)"[^>]*?value="([^"]*)"', text)) | {
        "reason": "was a slip"
    }


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("former_end", [None, 200], ids=["endless", "ending"])
def test_a_withdrawn_version_leaves_everything_as_before_it(
    browser: Browser, psql: Any, former_end: int | None
) -> None:
    if former_end is not None:
        end_version_in_force(psql, day_in(former_end))
    before = versions(psql)
    client = browser("finance", "en")
    add_mistake(client, day_in(40))
    assert len(versions(psql)) == 2
    sent = withdrawal(client)
    assert client.post(WITHDRAW, data=sent | {"reason": " "}).status_code == 422
    assert client.post(WITHDRAW, data=sent).status_code == 303
    assert versions(psql) == before
    assert client.post(WITHDRAW, data=sent).status_code == 409  # the one before is in use
    with psql() as connection:
        assert connection.execute(
            "select username, entity_id, detail ->> 'reason' from identity.audit_log"
            " where action = 'withdraw_plan_version' order by id desc limit 1"
        ).fetchone() == ("finance", "plan-4g-596@3", "was a slip")
        left = [
            table
            for table, key in (
                ("usage_price", "plan_version_id"), ("price_tier", "usage_price_id"),
                ("price_step", "usage_price_id"), ("allowance", "plan_version_id"),
            )
            if connection.execute(
                f"select 1 from catalogue.{table} where {key} like 'plan-4g-596@3%'"
            ).fetchone()
        ]  # fmt: skip
    assert left == []


@pytest.mark.usefixtures("untouched")
def test_a_replaced_version_is_as_if_it_had_been_entered_so_at_once(
    browser: Browser, psql: Any
) -> None:
    end_version_in_force(psql, day_in(200))
    client = browser("finance", "en")
    add_mistake(client, day_in(40))
    sent = sent_fields(client.get(REPLACE).text, REPLACE) | {"do": "save"}
    assert (sent["monthly_fee_amount"], sent["valid_from"]) == ("5666", day_in(40))
    unchanged = client.post(REPLACE, data=sent | {"reason": "x"})
    assert (unchanged.status_code, "nothing is changed" in unchanged.text) == (422, True)
    sent |= {"monthly_fee_amount": "566", "reason": "566 was meant"}
    later = sent | {"valid_from": day_in(60)}
    assert client.post(REPLACE, data=later).status_code == 303
    assert versions(psql)[0][3] == day_in(60)
    assert versions(psql)[1:] == [(3, Decimal(566), day_in(60), None)]
    assert client.post(REPLACE, data=later).status_code == 409  # it is not what was seen
    # Beyond the end that the version before had, that end counts again.
    sent = sent_fields(client.get(REPLACE).text, REPLACE)
    sent |= {"do": "save", "valid_from": day_in(300), "reason": "later still"}
    assert client.post(REPLACE, data=sent).status_code == 303
    assert [row[3] for row in versions(psql)] == [day_in(200), None]
    assert client.post(WITHDRAW, data=withdrawal(client)).status_code == 303
    assert [row[3] for row in versions(psql)] == [day_in(200)]


@pytest.mark.usefixtures("untouched")
def test_a_version_that_began_or_is_in_use_is_neither_replaced_nor_withdrawn(
    browser: Browser, psql: Any
) -> None:
    client = browser("finance", "en")
    page = client.get("/catalogue/plan-4g-596").text
    assert "replace-version" not in page
    assert client.get(REPLACE).status_code == 409
    add_mistake(client, day_in(40))
    sent = withdrawal(client)
    with psql() as connection:
        connection.execute(
            "update catalogue.price_plan_version set used_at = now()"
            " where plan_version_id = 'plan-4g-596@3'"
        )
    refused = client.post(WITHDRAW, data=sent)
    assert (refused.status_code, "has begun or is in use" in refused.text) == (409, True)
    assert "replace-version" not in refused.text
    assert client.post(REPLACE, data=sent | {"valid_from": day_in(50)}).status_code == 409
    assert len(versions(psql)) == 2


@pytest.mark.usefixtures("untouched")
def test_withdrawing_a_version_out_of_a_file_lets_the_one_before_take_its_time_over(
    browser: Browser, psql: Any
) -> None:
    client = browser("finance", "en")
    add_mistake(client, day_in(40))
    with psql() as connection:  # as a file would leave it: nothing in the log about its end
        connection.execute("alter table identity.audit_log disable trigger all")
        connection.execute(
            "update identity.audit_log set entity_id = 'another' where entity_id = 'plan-4g-596@3'"
        )
        connection.execute("alter table identity.audit_log enable trigger all")
    assert client.post(WITHDRAW, data=withdrawal(client)).status_code == 303
    assert [row[3] for row in versions(psql)] == [None]


def test_an_input_that_the_form_does_not_have_is_refused(browser: Browser) -> None:
    client = browser("admin", "en")
    for name in ("usage_prices.0.tiers", "usage_prices.x.model", "price_list", "status"):
        sent = fields(client, valid_from=next_month(), reason="x", monthly_fee_amount="1")
        assert client.post(FORM, data=sent | {name: "1"}).status_code == 422


@pytest.mark.parametrize("username", ["agent44", "operator", "analyst"])
def test_only_finance_and_administrators_change_tariffs(browser: Browser, username: str) -> None:
    client = browser(username, "en")
    page = client.get("/catalogue/plan-4g-596").text
    assert "new-version" not in page
    assert client.get(FORM).status_code == 403
    token = re.findall(r'name="csrf_token" value="(\w+)"', page)[0]
    for path in (FORM, REPLACE, WITHDRAW):
        assert client.post(path, data={"csrf_token": token}).status_code == 403


def test_a_tariff_is_changed_at_headquarters(browser: Browser, psql: Any) -> None:
    client = browser("finance", "en")
    with psql() as connection:
        connection.execute(
            "update identity.app_user set province_code = '44' where username = 'finance'"
        )
    try:
        answer = client.get(FORM)
        assert (answer.status_code, "at headquarters" in answer.text) == (403, True)
    finally:
        with psql() as connection:
            connection.execute(
                "update identity.app_user set province_code = '00' where username = 'finance'"
            )


def test_the_interface_gives_prices_and_versions(browser: Browser, operational: Settings) -> None:
    password = operational.admin_password.get_secret_value()
    answer = browser().get(
        "/tmf-api/productCatalogManagement/v4/productOffering/plan-4g-76?version=1",
        auth=("analyst", password),
    )
    offering = answer.json()
    voice = next(one for one in offering["usagePrice"] if one["chargeClass"] == "voice_domestic")
    assert voice["tier"][0]["price"] == "0.150000"
    assert [one["version"] for one in offering["versions"]] == [2, 1]
    assert {one["scope"] for one in offering["allowance"]} == {"line"}


# --- in words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "unit", "english"),
    [
        (
            {"model": "slots", "connection_fee_amount": "0.5", "maximum_amount": "3", "tiers": [
                {"to_quantity": 60, "increment_quantity": 6, "price_amount": "0.02"},
                {"increment_quantity": 1, "per_quantity": 60, "price_amount": "0.1",
                 "is_partial": True},
            ], "overhang": "each"},
            "second",
            ["first 1 min: 0.02 per 6 s, every started 6 s counts as 6 s",
             "beyond 1 min: 0.10 per min, pro rata", "every slot rounds alone",
             "connection fee 0.50", "at most 3.00 a record"],
        ),
        (
            {"model": "volume", "minimum_amount": "1", "tiers": [
                {"to_quantity": 100, "increment_quantity": 1, "price_amount": "0.1"},
                {"increment_quantity": 1, "price_amount": "0.05", "flat_amount": "2"},
            ]},
            "event",
            ["the whole quantity at the tier it reaches", "first 100 messages: 0.10 each",
             "beyond 100 messages: 0.05 each, 2.00 on entering",
             "at least 1.00 a record"],
        ),
        (
            {"model": "package", "tiers": [{"increment_quantity": "1 GB", "price_amount": "10"}]},
            "octet", ["10.00 for every started 1 GB"],
        ),
        (
            {"model": "graduated", "beyond": "free", "tiers": [
                {"to_quantity": "10 KB", "increment_quantity": 512, "price_amount": "0"},
            ]},
            "octet", ["first 10 KB: free", "free after that"],
        ),
    ],
    ids=["slots", "volume", "package", "graduated"],
)  # fmt: skip
def test_a_price_is_said_in_full(price: dict[str, Any], unit: str, english: list[str]) -> None:
    row = UsagePriceRow.model_validate({"charge_class": "x", **price})
    stored = UsagePrice(
        model=row.model, repeat_quantity=None, overhang=row.overhang,
        connection_fee_amount=row.connection_fee_amount, minimum_amount=row.minimum_amount,
        maximum_amount=row.maximum_amount,
    )  # fmt: skip
    tiers = [PriceTier(**values) for values in tier_values(row.tiers)]
    assert Wording("en", ZONE).price(stored, tiers, unit) == english
    chinese = Wording("zh", ZONE).price(stored, tiers, unit)
    assert len(chinese) == len(english)
    assert not any(re.search(r"[a-z]{3,}", line) for line in chinese)
    assert isinstance(row.tiers[0].increment_quantity, Measure)


def test_charge_classes_have_the_same_names_in_the_catalogue_and_on_every_page(
    operational: Settings,
) -> None:
    with transaction(operational) as session:
        for row in charge_classes(session):
            assert messages()[f"charge_class.{row.charge_class}"] == {
                "zh": row.name_zh, "en": row.name_en,
            }, row.charge_class  # fmt: skip
