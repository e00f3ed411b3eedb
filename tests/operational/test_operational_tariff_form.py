"""The form for a tariff: what stands in it is what a file would say, checked as a file is."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operational.catalogue.authoring import (
    BILL_ITEMS,
    LAST_VERSION,
    AllowanceRow,
    CommitmentRow,
    DiscountRow,
    Occasion,
    OfferingRow,
    UsagePriceRow,
    VersionRow,
)  # fmt: skip
from operational.catalogue.content import stored_contents
from operational.catalogue.drafts import (
    OFFERING_FIELDS,
    VERSION_FIELDS,
    FormField,
    draft_of,
    read_draft,
    written_document,
)  # fmt: skip
from operational.catalogue.exporting import offering_file
from operational.catalogue.findings import CatalogueError
from operational.catalogue.loader import diff_catalogue, load_catalogue, validate_catalogue
from operational.catalogue.web import CHOICE_WORDS
from operational.database import session_factory
from operational.i18n import messages
from operational.problems import InvalidRequestError
from tests.operational.browser_forms import sent_fields
from tollhouse.settings import Settings

Browser = Callable[..., TestClient]
Card = dict[str, Any]
NEW = "/catalogue/new-offering"
FIELDS = (*OFFERING_FIELDS, *VERSION_FIELDS)


def day_in(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


# --- the form and the authoring format ------------------------------------------------------------

amounts = st.decimals(0, 1000, places=6).map(lambda value: f"{value.normalize():f}")
prices = st.decimals("0.000001", 1000, places=6).map(lambda value: f"{value.normalize():f}")
words = st.text("abc中文&<>\"'./-", min_size=1, max_size=10) | st.just("a b")
UNITS = {
    "voice_domestic": ("second", ["s", "min"]), "data_domestic": ("octet", ["B", "KB", "MB", "GB"]),
    "sms_domestic": ("event", [""]),
}  # fmt: skip


def maybe(draw: st.DrawFn, **values: st.SearchStrategy[Any]) -> Card:
    """Some of these fields."""
    return {name: draw(value) for name, value in values.items() if draw(st.booleans())}


def choices(model: Any, name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(get_args(model.model_fields[name].annotation))


@st.composite
def tiers(draw: st.DrawFn, charge_class: str) -> Card:
    size = st.tuples(st.integers(1, 5000), st.sampled_from(UNITS[charge_class][1])).map(
        lambda one: f"{one[0]} {one[1]}".strip()
    )
    return {"price_amount": draw(amounts)} | maybe(
        draw, from_quantity=size, to_quantity=size, increment_quantity=size, per_quantity=size,
        flat_amount=amounts, is_partial=st.booleans(),
    )  # fmt: skip


@st.composite
def usage_prices(draw: st.DrawFn) -> Card:
    charge_class = draw(st.sampled_from(sorted(UNITS)))
    return {
        "charge_class": charge_class, "model": draw(choices(UsagePriceRow, "model")),
        "tiers": draw(st.lists(tiers(charge_class), max_size=3)),
    } | maybe(
        draw, band=words, beyond=st.just("free"), overhang=choices(UsagePriceRow, "overhang"),
        connection_fee_amount=amounts, minimum_amount=prices, maximum_amount=prices,
        rounding_mode=choices(UsagePriceRow, "rounding_mode"), rounding_digits=st.integers(0, 6),
        bill_item_code=st.sampled_from(BILL_ITEMS),
    )  # fmt: skip


@st.composite
def allowances(draw: st.DrawFn) -> Card:
    unit, names = draw(st.sampled_from([*UNITS.values(), ("money", [""])]))
    return {
        "allowance": draw(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,9}", fullmatch=True)), "unit": unit,
        "size_quantity": f"{draw(st.integers(1, 5000))} {draw(st.sampled_from(names))}".strip(),
        "covers": [
            {"charge_class": draw(st.sampled_from(sorted(UNITS)))} | maybe(draw, band=words)
            for _ in range(draw(st.integers(1, 3)))
        ],
    } | maybe(
        draw, name_zh=words, name_en=words, priority=st.integers(1, 1000),
        scope=choices(AllowanceRow, "scope"), rollover_months=st.integers(0, 120),
        quantity_basis=choices(AllowanceRow, "quantity_basis"),
    )  # fmt: skip


@st.composite
def offerings(draw: st.DrawFn) -> OfferingRow:
    """Rows of the authoring format, sound or not: a form has to carry either."""
    discounts = st.fixed_dictionaries({
        "discount": st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True), "name_zh": words,
        "name_en": words, "kind": choices(DiscountRow, "kind"), "value": prices,
        "bill_item_codes": st.lists(st.sampled_from(BILL_ITEMS), unique=True),
    })  # fmt: skip
    one_offs = st.fixed_dictionaries({
        "occasion": st.sampled_from(get_args(Occasion)), "amount": amounts,
        "bill_item_code": st.sampled_from(BILL_ITEMS),
    })  # fmt: skip
    commitment = st.fixed_dictionaries({
        "months": st.integers(1, 120), "penalty_rule": choices(CommitmentRow, "penalty_rule"),
        "penalty_value": amounts, "penalty_on": choices(CommitmentRow, "penalty_on"),
    })  # fmt: skip
    version = {
        "version_number": 1, "valid_from": draw(st.dates(date(1970, 1, 1))),
        "monthly_fee_amount": draw(amounts),
        "usage_prices": draw(st.lists(usage_prices(), max_size=3)),
        "allowances": draw(st.lists(allowances(), max_size=2)),
        "discounts": draw(st.lists(discounts, max_size=2)),
        "one_off_prices": draw(st.lists(one_offs, max_size=2)),
    } | maybe(
        draw, valid_to=st.dates(), suspension_fee_amount=amounts, calendar=words,
        minimum_consumption_amount=st.just("12.34"), commitment=commitment,
        first_month_rule=choices(VersionRow, "first_month_rule"),
        last_month_rule=choices(VersionRow, "last_month_rule"),
        late_usage_policy=choices(VersionRow, "late_usage_policy"),
        not_offered=st.lists(st.sampled_from(sorted(UNITS)), unique=True),
    )  # fmt: skip
    return OfferingRow.model_validate(
        {
            "offering_id": draw(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)),
            "offering_type": draw(choices(OfferingRow, "offering_type")),
            "name_zh": draw(words), "name_en": draw(words), "versions": [version],
        } | maybe(draw, sp_id=words, content_id=words)
    )  # fmt: skip


@settings(max_examples=50)
@given(offerings())
def test_what_a_form_is_filled_with_comes_back_as_the_same_rows(offering: OfferingRow) -> None:
    units = {name: unit for name, (unit, _) in UNITS.items()}
    document = written_document(offering, units)
    filled = draft_of(FIELDS, document | document["versions"][0])
    sent = read_draft(FIELDS, dict(filled.inputs()))
    assert list(sent.inputs()) == list(filled.inputs())
    version = sent.document(*(one.name for one in VERSION_FIELDS)) | {"version_number": 1}
    again = sent.document(*(one.name for one in OFFERING_FIELDS)) | {"versions": [version]}
    assert OfferingRow.model_validate(again) == offering


@settings(max_examples=50)
@given(offerings())
def test_what_is_written_to_a_file_is_read_as_the_same_rows(offering: OfferingRow) -> None:
    units = {name: unit for name, (unit, _) in UNITS.items()}
    text = yaml.safe_dump(written_document(offering, units, is_short=True), allow_unicode=True)
    again = OfferingRow.model_validate(yaml.safe_load(text)).versions[0]
    written = offering.versions[0]
    # The names that allowances have of themselves need not be written.
    nameless = [
        row.model_copy(update={"allowances": tuple(
            one.model_copy(update={"name_zh": None, "name_en": None}) for one in row.allowances
        )})
        for row in (again, written)
    ]  # fmt: skip
    assert nameless[0] == nameless[1]


def test_rows_are_added_taken_out_and_raised() -> None:
    draft = read_draft(VERSION_FIELDS, {
        "usage_prices.0.charge_class": "a", "usage_prices.2.charge_class": "b",
        "usage_prices.2.tiers.0.price_amount": "1", "discounts.0.discount": "x",
        "discounts.1.discount": "y",
    })  # fmt: skip
    assert draft.add("usage_prices.1.tiers") == "usage_prices.1.tiers.1"
    assert draft.remove("usage_prices.0") == "usage_prices"
    assert draft.raise_row("discounts.1") == "discounts.0"
    assert draft.add("commitment") == draft.add("commitment") == "commitment.0"
    assert draft.document() == {
        "usage_prices": [{"charge_class": "b", "tiers": [{"price_amount": "1"}, {}]}],
        "discounts": [{"discount": "y"}, {"discount": "x"}], "commitment": {},
    }  # fmt: skip
    for at in ("tiers", "usage_prices.9", "usage_prices.x", "usage_prices.0.tiers.0.x", ""):
        with pytest.raises(InvalidRequestError):
            draft.remove(at)


def labelled(fields: tuple[FormField, ...]) -> Iterator[str]:
    """The messages that the form needs for fields."""
    for one in fields:
        yield f"tariff_field.{one.name}"
        family = CHOICE_WORDS.get(one.name, f"tariff_choice.{one.name}")
        yield from (f"{family}.{value}" for value in one.choices)
        if one.kind == "rows":
            yield f"tariff_add.{one.name}"
            yield from labelled(one.rows)


def test_every_field_of_the_authoring_format_has_its_words_in_the_form() -> None:
    assert sorted(set(labelled(FIELDS)) - messages().keys()) == []


def test_every_message_of_the_form_is_of_a_field_or_a_finding() -> None:
    names = {key.partition(".")[2] for key in labelled(FIELDS)}
    for family in ("tariff_field", "tariff_hint", "tariff_section", "tariff_add"):
        keys = {key.partition(".")[2] for key in messages() if key.startswith(f"{family}.")}
        assert keys <= names, family
    for key in messages():
        if key.startswith("finding_in_form."):
            assert key.replace("_in_form", "") in messages()


# --- offerings out of the form --------------------------------------------------------------------


@pytest.fixture
def made(psql: Any) -> Iterator[None]:
    """Takes out the offerings that a test makes: their ids begin with ``made-``."""
    yield
    with psql() as connection:
        connection.execute("set session_replication_role = replica")  # past the guards
        for table, key in (
            ("price_step", "usage_price_id"), ("price_tier", "usage_price_id"),
            ("usage_price", "usage_price_id"), ("allowance_coverage", "allowance_id"),
            ("allowance", "allowance_id"), ("discount", "plan_version_id"),
            ("one_off_price", "plan_version_id"), ("commitment", "plan_version_id"),
            ("price_plan_version", "plan_version_id"), ("offering", "offering_id"),
        ):  # fmt: skip
            connection.execute(f"delete from catalogue.{table} where {key} like 'made-%'")


def press(client: TestClient, sent: dict[str, str], do: str, **changes: str) -> dict[str, str]:
    """Press a button of the form; what stands in it then."""
    answer = client.post(NEW, data=sent | changes | {"do": do})
    assert answer.status_code == 200, answer.text
    return sent_fields(answer.text, NEW)


def begun(client: TestClient, **changes: str) -> dict[str, str]:
    """The form for a new add-on, sound as it is."""
    return sent_fields(client.get(NEW).text, NEW) | {
        "offering_id": "made-1", "offering_type": "addon", "name_zh": "新品", "name_en": "New one",
        "valid_from": day_in(30), "monthly_fee_amount": "5", "reason": "asked for",
    } | changes  # fmt: skip


def typed_plan(client: TestClient) -> dict[str, str]:
    """A plan with something of everything, row by row as somebody types it."""
    sent = begun(client, offering_id="made-plan", offering_type="plan", calendar="night-weekend")
    for number, (charge_class, model) in enumerate((
        ("voice_domestic", "slots"), ("voice_domestic", "slots"), ("voice_domestic", "slots"),
        ("data_domestic", "graduated"),
    )):  # fmt: skip
        at = f"usage_prices.{number}"
        sent = press(client, sent, "add usage_prices")
        band = ("day", "night", "weekend", "")[number]
        sent |= {f"{at}.charge_class": charge_class, f"{at}.model": model, f"{at}.band": band}
        if model == "graduated":
            first, second = f"{at}.tiers.0", f"{at}.tiers.1"
            sent |= {f"{first}.to_quantity": "1 GB", f"{first}.increment_quantity": "1 MB",
                     f"{first}.price_amount": "0.3"}  # fmt: skip
            sent = press(client, sent, f"add {at}.tiers")
            sent |= {f"{second}.increment_quantity": "1 MB", f"{second}.price_amount": "0.1",
                     f"{second}.flat_amount": "2"}  # fmt: skip
        else:
            sent |= {f"{at}.tiers.0.increment_quantity": "1 min",
                     f"{at}.tiers.0.price_amount": "0.2", f"{at}.maximum_amount": "3",
                     f"{at}.rounding_mode": "up"}  # fmt: skip
    sent["not_offered.sms_domestic"] = "yes"
    sent = press(client, sent, "add allowances") | {
        "allowances.0.allowance": "nights", "allowances.0.unit": "second",
        "allowances.0.size_quantity": "100 min", "allowances.0.scope": "shared",
        "allowances.0.rollover_months": "1", "allowances.0.covers.0.charge_class": "voice_domestic",
        "allowances.0.covers.0.band": "night",
    }  # fmt: skip
    sent = press(client, sent, "add discounts") | {
        "discounts.0.discount": "loyal", "discounts.0.name_zh": "优惠",
        "discounts.0.name_en": "Loyal", "discounts.0.kind": "percent", "discounts.0.value": "10",
        "discounts.0.bill_item_codes.rent": "yes",
    }  # fmt: skip
    sent = press(client, sent, "add one_off_prices") | {
        "one_off_prices.0.occasion": "leave", "one_off_prices.0.amount": "20",
    }  # fmt: skip
    return press(client, sent, "add commitment") | {
        "commitment.0.months": "12", "commitment.0.penalty_rule": "remaining_share",
        "commitment.0.penalty_value": "30", "commitment.0.penalty_on": "leave_or_change",
    }  # fmt: skip


def plan_file(folder: Path, valid_from: str) -> Path:
    """The same plan as a file, under another id."""

    def voice(band: str) -> Card:
        return {
            "charge_class": "voice_domestic", "band": band, "model": "slots",
            "maximum_amount": "3", "rounding_mode": "up",
            "tiers": [{"increment_quantity": "1 min", "price_amount": "0.2"}],
        }  # fmt: skip

    version = {
        "version_number": 1, "valid_from": valid_from, "monthly_fee_amount": "5",
        "calendar": "night-weekend", "not_offered": ["sms_domestic"],
        "usage_prices": [
            *map(voice, ("day", "night", "weekend")),
            {"charge_class": "data_domestic", "model": "graduated", "tiers": [
                {"to_quantity": "1 GB", "increment_quantity": "1 MB", "price_amount": "0.3"},
                {"increment_quantity": "1 MB", "price_amount": "0.1", "flat_amount": "2"},
            ]},
        ],
        "allowances": [{
            "allowance": "nights", "unit": "second", "size_quantity": "100 min", "scope": "shared",
            "rollover_months": 1, "covers": [{"charge_class": "voice_domestic", "band": "night"}],
        }],
        "discounts": [{"discount": "loyal", "name_zh": "优惠", "name_en": "Loyal",
                       "kind": "percent", "value": "10", "bill_item_codes": ["rent"]}],
        "one_off_prices": [{"occasion": "leave", "amount": "20"}],
        "commitment": {"months": 12, "penalty_rule": "remaining_share", "penalty_value": "30",
                       "penalty_on": "leave_or_change"},
    }  # fmt: skip
    plan = {"offering_id": "made-file", "offering_type": "plan", "name_zh": "新品",
            "name_en": "New one", "versions": [version]}  # fmt: skip
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({"offerings": [plan]}, allow_unicode=True), encoding="utf-8")
    return path


def rows_of(operational: Settings, version_id: str) -> Any:
    """All rows of a version, its offering's id taken out."""
    offering_id = version_id.partition("@")[0]
    with session_factory(operational)() as session:
        content = stored_contents(session, [version_id])[version_id]

    def anonymous(value: Any) -> Any:
        return value.replace(offering_id, "x") if isinstance(value, str) else value

    return [
        {name: anonymous(value) for name, value in row.items()}
        for row in content.by_key().values()
    ]  # fmt: skip


@pytest.mark.usefixtures("made")
def test_a_plan_typed_into_the_form_has_the_rows_of_the_same_plan_in_a_file(
    browser: Browser, operational: Settings, psql: Any, tmp_path: Path
) -> None:
    client = browser("finance", "en")
    sent = typed_plan(client)
    shown = client.post(NEW, data=sent | {"do": "preview"})
    assert shown.status_code == 200, shown.text
    for words_of in ("Nothing is saved yet", "first 1 GB: 0.30 per MB", "10% off (Rent)",
                     "12 months; leaving or changing to another plan"):  # fmt: skip
        assert words_of in shown.text
    with psql() as connection:
        assert connection.execute(
            "select count(*) from catalogue.offering where offering_id = 'made-plan'"
        ).fetchone() == (0,)
    confirmed = sent_fields(shown.text, NEW) | {"do": "save"}
    saved = client.post(NEW, data=confirmed)
    assert (saved.status_code, saved.headers.get("location")) == (
        303, "/catalogue/made-plan?version=1",
    )  # fmt: skip
    load_catalogue(operational, plan_file(tmp_path, sent["valid_from"]))
    assert rows_of(operational, "made-plan@1") == rows_of(operational, "made-file@1")
    with psql() as connection:
        assert connection.execute(
            "select username, entity_type, detail ->> 'reason' from identity.audit_log"
            " where action = 'add_offering' and entity_id = 'made-plan'"
        ).fetchall() == [("finance", "offering", "asked for")]
    again = client.post(NEW, data=confirmed)
    assert (again.status_code, "an offering of this id" in again.text) == (422, True)


def test_every_offering_downloaded_and_loaded_again_changes_nothing(
    browser: Browser, operational: Settings, psql: Any, tmp_path: Path
) -> None:
    with psql() as connection:
        known = connection.execute("select offering_id from catalogue.offering").fetchall()
    with session_factory(operational)() as session:
        for (offering_id,) in known:
            text = offering_file(session, operational, offering_id)
            (tmp_path / f"{offering_id}.yaml").write_text(text, encoding="utf-8")
    difference = diff_catalogue(operational, [tmp_path])
    assert (difference.changes, difference.findings) == ([], [])
    assert len(known) > 40
    answer = browser("analyst", "en").get("/catalogue/plan-4g-76/file")
    assert answer.text == (tmp_path / "plan-4g-76.yaml").read_text(encoding="utf-8")
    assert "plan-4g-76.yaml" in answer.headers["content-disposition"]
    assert browser("analyst").get("/catalogue/none/file").status_code == 404


def test_every_form_for_a_version_says_what_is_loaded(browser: Browser, psql: Any) -> None:
    client = browser("admin", "en")
    with psql() as connection:
        known = connection.execute(
            "select offering_id from catalogue.offering where offering_type = 'content'"
            " or offering_id ~ 'night|3g-card-80|plan-4g-76|caller-id|data-pack-1gb'"
        ).fetchall()
    assert len(known) > 4
    for (offering_id,) in known:
        path = f"/catalogue/{offering_id}/new-version"
        sent = sent_fields(client.get(path).text, path)
        sent |= {"valid_from": day_in(2000), "reason": "none", "do": "preview"}
        answer = client.post(path, data=sent)
        assert (answer.status_code, "nothing is changed" in answer.text) == (422, True), path


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", ["first 3 min: 0.25 per min", "first 3 min: 0.20 per min", "1. 5% off (Rent)",
                "2. 5% off (Rent)", "Incoming calls, all day", "Increment across slots: every slot",
                "plan-night-weekend@1 ends on", "Monthly fee</td>", "29.00"]),
        ("zh", ["前 3 分钟：0.25 元/分钟", "前 3 分钟：0.20 元/分钟", "国内语音被叫, 全天",
                "跨段进位: 各段分别进位", "plan-night-weekend@1 终止于", "29.00"]),
    ],
)  # fmt: skip
def test_the_preview_of_a_version_tells_all_that_changes_and_nothing_else(
    browser: Browser, psql: Any, language: str, told: list[str]
) -> None:
    client = browser("finance", language)
    path = "/catalogue/plan-night-weekend/new-version"
    sent = sent_fields(client.get(path).text, path)
    classes = [value for name, value in sent.items() if name.endswith(".charge_class")]
    incoming, service = (f"usage_prices.{classes.index(name)}"
                         for name in ("voice_incoming", "voice_service"))  # fmt: skip
    sent |= {"monthly_fee_amount": "29", "usage_prices.0.tiers.0.price_amount": "0.2",
             f"{service}.overhang": "each", "valid_from": day_in(900), "reason": "try"}  # fmt: skip
    for do in (f"remove {incoming}", "raise discounts.1"):
        sent = sent_fields(client.post(path, data=sent | {"do": do}).text, path)
    page = client.post(path, data=sent | {"do": "preview"}).text
    assert [words_of for words_of in told if words_of not in page] == []
    # Valid from, fee, the price, the service number's, the one taken out, both discounts.
    assert page.count("<tr>") == 1 + 7
    with psql() as connection:
        assert connection.execute(
            "select count(*) from catalogue.price_plan_version"
            " where offering_id = 'plan-night-weekend'"
        ).fetchone() == (1,)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "at", "english", "chinese"),
    [
        ({"offering_id": "Bad id"}, "offering_id", "lower case letters", "小写字母"),
        ({"offering_id": "plan-4g-76"}, "offering_id", "of this id already", "已有该编号"),
        ({"valid_from": ""}, "valid_from", "Valid from is missing", "缺少 生效日期"),
        ({"monthly_fee_amount": "1.5 yuan"}, "monthly_fee_amount", "is not a number", "不是数字"),
        ({"reason": ""}, "reason", "give a reason", "请填写"),
        ({"offering_type": "content"}, "sp_id", "both SP code and content code", "须有 SP 代码"),
        ({"offering_type": "plan"}, "usage_prices", "Services not offered", "不提供的业务"),
        ({"suspension_fee_amount": "9"}, "suspension_fee_amount", "is more than", "大于"),
        ({"valid_to": "2020-01-01"}, "valid_to", "not after the first", "不晚于"),
        ({"usage_prices.0.charge_class": "voice_domestic", "usage_prices.0.model": "slots"},
         "usage_prices.0.tiers", "add a tier", "请添加一档"),
        ({"usage_prices.0.charge_class": "voice_domestic", "usage_prices.0.model": "slots",
          "usage_prices.0.band": "night", "usage_prices.0.tiers.0.increment_quantity": "1 min",
          "usage_prices.0.tiers.0.price_amount": "1"},
         "usage_prices.0.band", "needs a calendar", "需要日历"),
        ({"usage_prices.0.charge_class": "voice_domestic", "usage_prices.0.model": "slots",
          "usage_prices.0.tiers.0.price_amount": "1"},
         "usage_prices.0.tiers.0.increment_quantity", "increment is missing", "缺少进位单位"),
        ({"usage_prices.0.charge_class": "voice_domestic", "usage_prices.0.model": "package",
          "usage_prices.0.overhang": "each", "usage_prices.0.tiers.0.price_amount": "1",
          "usage_prices.0.tiers.0.increment_quantity": "1 min"},
         "usage_prices.0.overhang", "no meaning in model by the package", "按包计价"),
        ({"allowances.0.allowance": "a", "allowances.0.unit": "octet",
          "allowances.0.size_quantity": "1 GB",
          "allowances.0.covers.0.charge_class": "voice_domestic"},
         "allowances.0.covers.0.charge_class", "counts data volume", "以 流量 计"),
        ({"allowances.0.allowance": "a", "allowances.0.unit": "octet",
          "allowances.0.size_quantity": "1 GB"},
         "allowances.0.covers", "Covers is missing", "缺少 适用类别"),
        ({"discounts.0.discount": "d", "discounts.0.name_zh": "d", "discounts.0.name_en": "d",
          "discounts.0.kind": "percent", "discounts.0.value": "101"},
         "discounts.0.value", "more than 100", "大于 100"),
        ({"one_off_prices.0.occasion": "join", "one_off_prices.0.amount": "1",
          "one_off_prices.1.occasion": "join", "one_off_prices.1.amount": "2"},
         "one_off_prices.1.occasion", "first at row 1", "第 1 行"),
        ({"commitment.0.penalty_rule": "fixed", "commitment.0.penalty_value": "1"},
         "commitment.0.months", "Months is missing", "缺少 月数"),
        ({"commitment.0.months": "1", "commitment.0.penalty_rule": "fixed",
          "commitment.0.penalty_value": "1", "commitment.0.penalty_on": "leave_or_change"},
         "commitment.0", "never changed", "没有变更套餐"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else "",
)  # fmt: skip
def test_a_fault_is_told_in_words_where_it_is_and_nothing_typed_is_lost(
    browser: Browser, changes: dict[str, str], at: str, english: str, chinese: str
) -> None:
    for language, words_of in (("en", english), ("zh", chinese)):
        told_at(browser("admin", language), changes, at, words_of)


def told_at(client: TestClient, changes: dict[str, str], at: str, words_of: str) -> None:
    """The form is refused, says why in words where it is, and holds what was typed."""
    sent = begun(client, **changes)
    answer = client.post(NEW, data=sent | {"do": "preview"})
    assert answer.status_code == 422
    told = answer.text[answer.text.index(f'id="{at}"') :]
    told = re.split(r'<(?:label|div|details|fieldset|section)[^>]* id="', told)[0]
    assert 'class="wrong"' in told
    assert words_of in told
    kept = sent_fields(answer.text, NEW)
    assert {name: kept.get(name) for name, value in sent.items() if value} == {
        name: value for name, value in sent.items() if value
    }
    # No name of the format is among the words.
    listed = re.findall(r'<small class="wrong">(.*?)</small>', answer.text)
    assert not any(re.search(r"[a-z]_[a-z]", line.replace("offering_id", "")) for line in listed)


@pytest.mark.parametrize(
    "changes",
    [
        {"name_zh": "a\x00b"}, {"monthly_fee_amount": "1e999999999"},
        {"monthly_fee_amount": "1e-999999999"}, {"monthly_fee_amount": "-1e999999999"},
        {"commitment.0.months": "9" * 5000}, {"valid_from": "0001-01-01"},
        {"valid_from": "99999-01-01"}, {"offering_id": "x" * 81}, {"name_en": "x" * 201},
        {"usage_prices.0.charge_class": "none"}, {"usage_prices.0.model": "none"},
        {"usage_prices.99999.model": "slots"}, {"usage_prices.0.tiers.0.tiers.0.a": "b"},
        {"calendar": "none"}, {"commitment.0.months.0": "1"}, {"": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_what_no_browser_sends_of_itself_is_refused_too(
    browser: Browser, changes: dict[str, str]
) -> None:
    client = browser("admin", "en")
    for do in ("preview", "save"):
        assert client.post(NEW, data=begun(client, **changes) | {"do": do}).status_code == 422


@pytest.mark.parametrize("do", ["add", "add status", "remove usage_prices.0", "paint x", "add a.b"])
def test_a_button_that_the_form_does_not_have_is_refused(browser: Browser, do: str) -> None:
    client = browser("admin", "en")
    assert client.post(NEW, data=begun(client) | {"do": do}).status_code == 422


@pytest.mark.parametrize("username", ["agent44", "operator", "analyst"])
def test_only_finance_and_administrators_make_offerings(browser: Browser, username: str) -> None:
    client = browser(username, "en")
    page = client.get("/catalogue").text
    assert NEW not in page
    assert client.get(NEW).status_code == 403
    token = re.findall(r'name="csrf_token" value="(\w+)"', page)[0]
    for do in ("preview", "save", "add usage_prices"):
        assert client.post(NEW, data={"csrf_token": token, "do": do}).status_code == 403
    assert client.post(NEW, data={"do": "save"}).status_code == 403


def test_a_new_offering_may_begin_as_a_copy(browser: Browser, psql: Any) -> None:
    client = browser("finance", "zh")
    sent = sent_fields(client.get(f"{NEW}?like=plan-night-weekend").text, NEW)
    assert (sent["offering_id"], sent["valid_from"], sent["monthly_fee_amount"]) == ("", "", "39")
    assert sent["discounts.1.discount"] == "ceiling"
    assert client.get(f"{NEW}?like=none").status_code == 404


@pytest.mark.usefixtures("made")
def test_an_offering_that_somebody_has_is_not_replaced_in_the_form(
    browser: Browser, psql: Any
) -> None:
    client = browser("finance", "en")
    assert client.post(NEW, data=begun(client) | {"do": "save"}).status_code == 303
    path = "/catalogue/made-1/replace-version"
    sent = sent_fields(client.get(path).text, path) | {"monthly_fee_amount": "6", "reason": "typo"}
    assert client.post(path, data=sent | {"do": "preview"}).status_code == 200
    with psql() as connection:
        connection.execute(
            "update catalogue.price_plan_version set used_at = now()"
            " where plan_version_id = 'made-1@1'"
        )
    assert client.post(path, data=sent | {"do": "save"}).status_code == 409
    with psql() as connection:
        assert connection.execute(
            "select monthly_fee_amount::int from catalogue.price_plan_version"
            " where plan_version_id = 'made-1@1'"
        ).fetchone() == (5,)


# --- versions of files, numbered anyhow -----------------------------------------------------------

numbers = st.lists(
    st.integers(1, 4) | st.integers(1, LAST_VERSION) | st.just(LAST_VERSION),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip


def addon_file(path: Path, offering_id: str, *versions: tuple[int, str, str | None]) -> Path:
    """An add-on whose versions have numbers, first days and days on which they are over."""
    rows = [
        {"version_number": number, "valid_from": begins, "valid_to": ends,
         "monthly_fee_amount": str(fee)}
        for fee, (number, begins, ends) in enumerate(versions, 1)
    ]  # fmt: skip
    one = {"offering_id": offering_id, "offering_type": "addon", "name_zh": "新品",
           "name_en": "New one", "versions": rows}  # fmt: skip
    path.write_text(yaml.safe_dump({"offerings": [one]}, allow_unicode=True), encoding="utf-8")
    return path


def standing(psql: Any, offering_id: str) -> list[tuple[int, str, str | None]]:
    with psql() as connection:
        return connection.execute(  # type: ignore[no-any-return]
            "select version_number, (valid_from at time zone 'Asia/Shanghai')::date::text,"
            " (valid_to at time zone 'Asia/Shanghai')::date::text"
            " from catalogue.price_plan_version where offering_id = %s order by valid_from",
            (offering_id,),
        ).fetchall()


@settings(
    max_examples=15, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.tuples(numbers, st.integers(0, 3)))
@pytest.mark.usefixtures("made")
def test_the_newest_version_is_the_one_valid_last_however_files_number_them(
    browser: Browser, operational: Settings, psql: Any, tmp_path: Path,
    numbered: tuple[list[int], int],
) -> None:  # fmt: skip
    """A version is added to it, put in its place, and withdrawn; no number is used twice."""
    order, to_come = numbered
    offering_id = f"made-{uuid.uuid4().hex}"
    # The last so many of them are still to come; each ends where the next one begins.
    places = range(-10 * (len(order) - to_come), 10 * to_come, 10)
    days = [day_in(place + 5) for place in places][: len(order)]
    loaded = list(zip(order, days, [*days[1:], None], strict=True))
    load_catalogue(operational, addon_file(tmp_path / "a.yaml", offering_id, *loaded))
    client, path = browser("finance", "en"), f"/catalogue/{offering_id}"
    sent = sent_fields(client.get(f"{path}/new-version").text, f"{path}/new-version")
    assert (sent["former"], sent["monthly_fee_amount"]) == (
        f"{offering_id}@{order[-1]}", str(len(order)),
    )  # fmt: skip
    begins = day_in(50)
    sent |= {"valid_from": begins, "monthly_fee_amount": "77", "reason": "dearer", "do": "save"}
    saved = client.post(f"{path}/new-version", data=sent)
    assert saved.status_code == 303, saved.text
    number = int(saved.headers["location"].rpartition("=")[2])
    assert number not in order
    added = [*loaded[:-1], (*loaded[-1][:2], begins), (number, begins, None)]
    assert standing(psql, offering_id) == added
    assert client.get(saved.headers["location"]).status_code == 200
    assert client.post(f"{path}/new-version", data=sent).status_code == 409  # sent twice
    replacing = sent_fields(client.get(f"{path}/replace-version").text, f"{path}/replace-version")
    assert (replacing["former"], replacing["monthly_fee_amount"]) == (
        f"{offering_id}@{number}", "77",
    )  # fmt: skip
    replacing |= {"monthly_fee_amount": "78", "reason": "typo", "do": "save"}
    assert client.post(f"{path}/replace-version", data=replacing).status_code == 303
    assert standing(psql, offering_id) == added
    withdrawal = sent_fields(client.get(path).text, f"{path}/withdraw-version")
    answer = client.post(f"{path}/withdraw-version", data=withdrawal | {"reason": "no"})
    assert answer.status_code == 303, answer.text
    assert standing(psql, offering_id) == loaded
    # As a file it is what it was.
    (tmp_path / "b.yaml").write_bytes(client.get(f"{path}/file").content)
    assert diff_catalogue(operational, [tmp_path / "b.yaml"]).changes == []


def test_a_number_of_a_version_that_no_page_could_show_is_refused(tmp_path: Path) -> None:
    faulty = addon_file(tmp_path / "a.yaml", "made-1", (LAST_VERSION + 1, "2026-01-01", None))
    with pytest.raises(CatalogueError, match=f"version_number is at most {LAST_VERSION}"):
        validate_catalogue([faulty], "Asia/Shanghai")


@pytest.mark.parametrize(
    ("used", "free"), [((7, 2), 8), ((LAST_VERSION, 2), 1), ((LAST_VERSION, 1), 2)]
)
@pytest.mark.usefixtures("made")
def test_who_changes_a_version_in_use_is_told_a_number_that_is_free(
    operational: Settings, psql: Any, tmp_path: Path, used: tuple[int, int], free: int
) -> None:
    days = [day_in(-20), day_in(-10)]
    loaded = [(used[0], days[0], days[1]), (used[1], days[1], None)]
    file = addon_file(tmp_path / "a.yaml", "made-1", *loaded)
    load_catalogue(operational, file)
    with psql() as connection:
        connection.execute(
            "update catalogue.price_plan_version set used_at = now() where offering_id = 'made-1'"
        )
    text = file.read_text(encoding="utf-8")
    dearer = text.replace("monthly_fee_amount: '2'", "monthly_fee_amount: '3'")
    file.write_text(dearer, encoding="utf-8")
    with pytest.raises(
        CatalogueError, match=rf"made-1@{used[1]}: is in use.* add version {free}\b"
    ):
        load_catalogue(operational, file)
