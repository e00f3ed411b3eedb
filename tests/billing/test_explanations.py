"""Every usage charge follows from the parts that its explanation shows."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from operational.app import create_app
from operational.billing import arithmetic, explanation
from operational.billing.arithmetic import Price, Segment, Step, work_out
from operational.billing.explanation import (
    Explanation,
    explain,
    prices_of,
    usage_parts,
)  # fmt: skip
from operational.billing.wording import Wording
from operational.permissions import Principal
from operational.problems import ForbiddenError, NotFoundError
from operational.security import SESSION_COOKIE
from tollhouse.cli import app as command_line
from tollhouse.conformance import run_scenarios
from tollhouse.postgres import connect
from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import Warehouse, open_warehouse, read_warehouse, writer_lock

SCENARIOS = PROJECT_ROOT / "tests" / "conformance" / "rating_scenarios.jsonl"
CLERK = Principal("clerk", "clerk", "finance", "00")
NANO = Fraction(1, 10**9)


def disagreements(warehouse: Warehouse) -> tuple[int, list[Any]]:
    """How many components were worked out again, and those that are not what was charged."""
    charged = {
        (usage_id, price_id): (amount, residue, left)
        for usage_id, price_id, amount, residue, left in warehouse.rows(
            "select usage_id, usage_price_id, amount, rounding_residue_amount, left_micro"
            " from billing.usage_charge"
        )
    }
    paid = {
        (usage_id, price_id, bucket_id): drawn
        for usage_id, price_id, bucket_id, drawn in warehouse.rows(
            "select usage_id, usage_price_id, bucket_id, drawn_amount from billing.money_draw"
        )
    }
    parts = usage_parts(warehouse, {usage_id for usage_id, _ in charged})
    prices = prices_of(
        warehouse, {segment.usage_price_id for each in parts.values() for segment in each.segments}
    )
    wrong: list[Any] = []
    seen = set()
    for usage_id, each in parts.items():
        for component in work_out(each.segments, prices)[0]:
            key = (usage_id, component.usage_price_id)
            seen.add(key)
            amount, residue, left = charged[key]
            if (component.amount, component.left) != (amount, left) or abs(
                Fraction(residue) - component.residue
            ) > NANO:
                wrong.append((key, component, amount, residue, left))
        for draw in each.money_draws:
            key = (usage_id, draw["usage_price_id"], draw["bucket_id"])
            assert paid[key] == draw["drawn_amount"]
    assert seen == set(charged)
    return len(seen), wrong


def test_every_usage_charge_of_a_carrier_follows_from_its_parts(small_carrier: Settings) -> None:
    with read_warehouse(small_carrier, wait_s=30) as warehouse:
        count, wrong = disagreements(warehouse)
    assert count > 10_000
    assert wrong == []


def test_charges_under_every_price_model_follow_from_their_parts(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    run_scenarios(settings, SCENARIOS.read_text(encoding="utf-8").splitlines())
    with read_warehouse(Settings(home=tmp_path / "conformance")) as warehouse:
        models = {
            model for (model,) in warehouse.rows("select distinct model from ods.usage_price")
        }
        count, wrong = disagreements(warehouse)
    assert models == {"slots", "graduated", "volume", "package"}
    assert count > 50
    assert wrong == []


def find(settings: Settings, query: str) -> str:
    """The first value a query on the warehouse gives."""
    with read_warehouse(settings, wait_s=30) as warehouse:
        rows = warehouse.rows(query)
    return str(rows[0][0])


def told(found: Explanation, principal: Principal = CLERK, language: str = "en") -> dict[str, Any]:
    wording = Wording(language=language, timezone="Asia/Shanghai", principal=principal)
    document = wording.document(found)
    sections = document.pop("sections")
    return document | {section["section"]: section for section in sections}


PARTLY_COVERED = (
    "select usage_id from billing.allowance_draw where drawn_micro > 0 and left_micro > 0"
    " order by usage_id"
)


def test_a_usage_is_explained_from_its_file_to_its_bill(small_carrier: Settings) -> None:
    usage_id = find(small_carrier, PARTLY_COVERED)
    found = explain(small_carrier, principal=CLERK, identifier=usage_id)
    document = told(found)
    assert document["is_agreed"] and document["is_live"]
    record = {fact["fact"]: fact["value"] for fact in document["record"]["facts"]}
    with read_warehouse(small_carrier, wait_s=30) as warehouse:
        file_id, number = warehouse.rows(
            "select _file_id, _record_number from mediation.usage where usage_id = ?", [usage_id]
        )[0]
        wanted, drawn, left, size = warehouse.rows(
            "select wanted_micro, drawn_micro, left_micro, size_micro"
            " from billing.allowance_draw inner join billing.allowance_bucket using (bucket_id)"
            " where usage_id = ?",
            [usage_id],
        )[0]
    assert (record["file"], record["record_number"]) == (file_id, f"{number:,}")
    assert record["sha256"] and record["position"]
    assert "midnight" not in str(document["mediation"]), "no source here splits at midnight"
    draw = document["allowances"]["rows"][0]
    unit = document["pricing"]["arithmetic"][0]["result"].rpartition(" ")[2]
    assert unit in {"s", "B", "KB", "MB", "GB"} or unit.replace(",", "").isdigit()
    assert wanted - drawn == left
    # The bucket was drawn to its last unit by this usage.
    assert draw["size"] == arithmetic.shown(size, _unit(small_carrier, usage_id))
    assert document["charge"]["rows"]


def _unit(settings: Settings, usage_id: str) -> str:
    return find(settings, f"select unit from billing.guided_usage where usage_id = '{usage_id}'")


def one_of_everything(settings: Settings) -> list[str]:
    """What can be explained: a usage of every class, one held back, every item of a bill, a fee."""
    with read_warehouse(settings, wait_s=30) as warehouse:
        rows = warehouse.rows(
            "select cast(min(usage_id) as varchar) from billing.guided_usage group by charge_class"
            " union all select cast(min(usage_id) as varchar) from billing.suspended_usage"
            " group by reason_code"
            " union all select bill_item_key from billing.bill_item"
            " where bill_id = (select max(bill_id) from billing.bill)"
            " union all select max(bill_id) from billing.bill"
            " union all select cast(min(charge_key) as varchar) from billing.charge"
            " where charge_type = 'recurring'"
        )
    return [identifier for (identifier,) in rows]


# What no translation is asked of: identifiers, and what the record itself says.
AS_IT_IS = ("code", "raw", "moment", "number", "identity", "usage", "bill_item", "bill")


def test_values_are_words_of_the_readers_language(small_carrier: Settings) -> None:
    words: dict[str, set[str]] = {"zh": set(), "en": set()}
    for identifier in one_of_everything(small_carrier):
        found = explain(small_carrier, principal=CLERK, identifier=identifier)
        for language, heard in words.items():
            wording = Wording(language=language, timezone="Asia/Shanghai", principal=CLERK)
            heard.add(wording.title(found))
            for section in found.sections:
                for fact in [*section.facts, *(fact for row in section.rows for fact in row)]:
                    if fact.kind not in AS_IT_IS:
                        heard.add(wording.value(fact))
                heard |= {wording.note(key, values) for key, values in section.notes}
    # Prices go by their ids; units and country names of two letters are the same everywhere.
    plain = {re.sub(r"\([a-z0-9-]+@\d+/\w+\)", "", text) for text in words["zh"]}
    assert sorted(text for text in plain if re.search(r"[A-Za-z]{3}", text)) == []
    assert sorted(text for text in words["en"] if re.search(r"[\u4e00-\u9fff]", text)) == []
    assert sorted(text for text in words["en"] if re.search(r"[a-z]_[a-z]|True|False", text)) == [
        text for text in sorted(words["en"]) if "@" in text and "_" in text
    ]
    assert {"语音", "主叫或上行", "月租", "是"} <= words["zh"]


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("zh", "错误：没有可说明的 nonsense"),
        ("en", "error: there is nothing to explain by nonsense"),
    ],
)
def test_the_command_refuses_in_the_language_asked_for(
    small_carrier: Settings, monkeypatch: pytest.MonkeyPatch, language: str, told: str
) -> None:
    monkeypatch.setattr("tollhouse.bill_commands.read_settings", lambda: small_carrier)
    answer = CliRunner().invoke(command_line, ["explain", "nonsense", "--lang", language])
    assert (answer.exit_code, answer.stderr.startswith(told)) == (1, True), answer.output


def test_bill_items_and_bills_add_up_in_their_explanation(small_carrier: Settings) -> None:
    with read_warehouse(small_carrier, wait_s=30) as warehouse:
        items = warehouse.rows(
            "select bill_item_key, amount from billing.bill_item where amount > 0"
            " order by bill_item_key limit 20"
        )
        bills = warehouse.rows(
            "select bill_id, closing_amount from billing.bill order by bill_id limit 5"
        )
    assert (len(items), len(bills)) == (20, 5)
    for identifier, amount in [*items, *bills]:
        found = explain(small_carrier, principal=CLERK, identifier=identifier)
        assert (found.amount, found.worked_out) == (amount, amount), identifier
        assert found.identifier.replace("-", "") == identifier.replace("-", "")


def test_every_kind_of_monthly_fee_follows_from_its_days(small_carrier: Settings) -> None:
    with read_warehouse(small_carrier, wait_s=30) as warehouse:
        charges = warehouse.rows(
            "select cast(min(charge_key) as varchar), amount from billing.charge"
            " where charge_type = 'recurring' group by plan_version_id, amount order by 1"
        )
    assert any(amount % 1 for _, amount in charges), "no fee in proportion to days"
    for charge_key, amount in charges:
        found = explain(small_carrier, principal=CLERK, identifier=charge_key)
        assert (found.kind, found.amount, found.worked_out) == ("charge", amount, amount)


def test_who_looked_is_kept_and_other_provinces_are_not_shown(small_carrier: Settings) -> None:
    bill_id = find(small_carrier, "select bill_id from billing.bill where province_code = '44'")
    explain(small_carrier, principal=CLERK, identifier=bill_id)
    with connect(small_carrier) as connection:
        row = connection.execute(
            "select username, entity_type, province_code from identity.audit_log"
            " where action = 'explain' and entity_id = %s order by id desc limit 1",
            (bill_id,),
        ).fetchone()
    assert row == ("clerk", "bill", "44")
    with pytest.raises(NotFoundError):
        explain(small_carrier, principal=Principal("s", "s", "agent", "51"), identifier=bill_id)
    with pytest.raises(ForbiddenError):
        explain(small_carrier, principal=Principal("o", "o", "operator", "00"), identifier=bill_id)


def test_numbers_are_masked_for_roles_without_need(small_carrier: Settings) -> None:
    usage_id = find(small_carrier, PARTLY_COVERED)
    analyst = Principal("a", "a", "analyst", "00")
    found = explain(small_carrier, principal=analyst, identifier=usage_id)
    msisdn = find(
        small_carrier,
        f"select served_msisdn from billing.classified_usage where usage_id = '{usage_id}'",
    )
    assert msisdn in str(told(found))
    for language in ("zh", "en"):
        shown = str(told(found, analyst, language))
        assert msisdn not in shown
        assert msisdn[-8:] not in shown


def test_what_is_not_there_is_said_to_be_not_there(small_carrier: Settings) -> None:
    for identifier in ("nonsense", str(uuid.uuid4()), "2026-10-A9999999"):
        with pytest.raises(NotFoundError, match="nothing to explain"):
            explain(small_carrier, principal=CLERK, identifier=identifier)


def test_while_the_warehouse_is_written_the_published_copy_explains(
    small_carrier: Settings, tmp_path: Path
) -> None:
    usage_id = find(small_carrier, PARTLY_COVERED)
    with writer_lock(small_carrier, "a long run"):
        found = explain(small_carrier, principal=CLERK, identifier=usage_id)
    assert not found.is_live
    assert found.is_agreed
    document = told(found)
    assert document["record"]["facts"] == []
    assert document["pricing"]["arithmetic"]


MINUTE = 60_000_000


def price(**changes: Any) -> Price:
    fields: dict[str, Any] = {
        "usage_price_id": "v", "unit": "second", "model": "slots", "repeat": None,
        "connection_fee": 0, "minimum": None, "maximum": None, "denominator": 1,
        "rounding_mode": "half_up", "rounding": 1000,
        "steps": (Step(0, None, 0, None, MINUTE, 0, 150_000),),
        "tiers": (arithmetic.Tier(0, None, 60, Decimal("0.15")),),
    }  # fmt: skip
    return Price(**fields | changes)


def test_a_line_reads_as_a_clerk_would_reckon() -> None:
    segment = Segment(1, "v", "p", 61_000_000, None)
    (component,), _ = work_out([segment], {"v": price()})
    assert component.amount == Decimal("0.300")
    assert [line.formula for line in component.lines] == ["2 × 60 s × 0.15/60 s", "0.30"]
    assert component.lines[0].result == "0.30"


def test_taking_usage_back_gives_what_it_cost_back() -> None:
    for quantity in (61_000_000, 3_599_000_000):
        there, _ = work_out([Segment(1, "v", "p", quantity, None)], {"v": price()})
        back, _ = work_out([Segment(1, "v", "p", -quantity, None)], {"v": price()})
        assert there[0].amount == -back[0].amount > 0


@pytest.fixture
def pages(small_carrier: Settings) -> Iterator[Callable[[str, str], TestClient]]:
    """Browsers signed in as one of the demo users, in a language."""
    application = create_app(small_carrier)
    opened: list[TestClient] = []

    def sign_in(username: str, language: str) -> TestClient:
        client = TestClient(application, follow_redirects=False)
        opened.append(client)
        client.get(f"/language/{language}")
        with connect(small_carrier) as connection:
            row = connection.execute(
                "select session_epoch from identity.app_user where username = %s", (username,)
            ).fetchone()
        assert row is not None
        signer = application.state.installation.signer
        client.cookies.set(SESSION_COOKIE, signer.dump(signer.new(username, row[0])))
        return client

    yield sign_in
    for client in opened:
        client.close()


def test_pages_explain_in_both_languages_and_link_down_to_the_record(
    small_carrier: Settings, pages: Callable[[str, str], TestClient]
) -> None:
    usage_id = find(small_carrier, PARTLY_COVERED)
    for language, words in (
        ("zh", ("套餐抵扣", "原始话单")),
        ("en", ("Allowances drawn", "Record")),
    ):
        client = pages("admin", language)
        page = client.get(f"/explain/{usage_id}").text
        assert all(word in page for word in words)
        assert "notice good" in page
        bill_id = re.findall(r'href="/explain/(2026-10-[^"]+)"', page)[0]
        bill = client.get(f"/explain/{bill_id}").text
        item_key = re.findall(r'href="/explain/([0-9a-f-]{36})"', bill)[0]
        assert client.get(f"/explain/{item_key}").status_code == 200
        for name in ("document.html", "document.pdf", "document.ubl", "usage.csv"):
            answer = client.get(f"/bills/{bill_id}/{name}")
            assert (answer.status_code, len(answer.content) > 0) == (200, True), name
        assert client.get(f"/bills/{bill_id}/document.docx").status_code == 422
    assert client.get("/explain/nonsense").status_code == 404
    answer = client.get("/explain", params={"id": f" {usage_id} "})
    assert answer.headers["location"] == f"/explain/{usage_id}"


def test_discounts_caps_and_minimums_are_worked_out_again(tmp_path: Path) -> None:
    tables = (
        "create table ods.discount as select * from (values ('cap', 'cap', 15.0, 'voice,sms'),"
        " ('percent', 'percent', 12.5, null), ('low', 'minimum', 70.0, null),"
        " ('less', 'amount', 7.0, 'minimum')) as t (discount_id, kind, value, bill_item_codes)",
        "create table ods.price_plan_version as"
        " select 'v' as plan_version_id, 10.0 as minimum_consumption_amount",
        "create table billing.recurring_charge as select 'v' as plan_version_id,"
        " 'S1' as subscription_id, '2026-10' as cycle_id, 'p' as product_instance_id, fee_parts,"
        " 62 as fee_whole, fee_rule"
        " from (values (10, null), (20, 'own'), (32, 'included')) as t (fee_parts, fee_rule)",
        "create table billing.bill_item as select *, 'S1' as subscription_id,"
        " '2026-10' as cycle_id from (values"
        " ('a', 'sms', 'cap', 20.02, -2.51), ('b', 'voice', 'cap', 20.02, -2.51),"
        " ('c', 'rent', 'percent', 71.00, -7.00), ('d', 'sms', 'percent', 71.00, -0.94),"
        " ('e', 'voice', 'percent', 71.00, -0.94), ('f', 'minimum', 'low', 62.12, 7.88),"
        " ('g', 'minimum', 'less', 7.88, -7.00), ('h', 'minimum', 'v/minimum', 1.00, 3.84)) as t"
        " (bill_item_key, bill_item_code, discount_id, base_amount, amount)",
    )
    with open_warehouse(Settings(home=tmp_path), "test") as warehouse:
        for statement in tables:
            warehouse.execute(statement)
        items = warehouse.arrow("select * from billing.bill_item").to_pylist()
        for item in items:
            _, worked_out = explanation._discount_section(warehouse, item)
            assert worked_out == item["amount"], item


def test_penalties_and_what_is_charged_once_are_worked_out_again(tmp_path: Path) -> None:
    tables = (
        "create table ods.commitment as select * from (values"
        " ('s', 24, 'remaining_share', 33.3), ('f', 24, 'fixed', 200.0)) as t"
        " (plan_version_id, months, penalty_rule, penalty_value)",
        "create table ods.price_plan_version as select * from (values ('s', 76.0), ('t', 56.0),"
        " ('f', 76.0)) as t (plan_version_id, monthly_fee_amount)",
        "create table ods.one_off_price as"
        " select 't' as plan_version_id, 'change' as occasion, 10.0 as amount",
        "create table billing.one_off_charge as"
        " select *, '2026-10' as cycle_id, timestamp '2026-10-15 16:00:00' as happened_at"
        " from (values ('S1', 't', 's/penalty', 'leave', 9, 279.72),"
        " ('S2', 's', 's/penalty', 'change', 10, 354.31),"
        " ('S3', 'f', 'f/penalty', 'change', 9, 200.00)) as t"
        " (subscription_id, plan_version_id, price_component, ended_by, begun_months, amount)",
        "create table billing.charge as"
        " select *, offering_id: plan_version_id, charge_type: 'penalty', charge_class: 'penalty',"
        " charged_at: happened_at from billing.one_off_charge",
        "insert into billing.charge by name select 'S1' as subscription_id, 't' as plan_version_id,"
        " 't' as offering_id, 'one_off' as charge_type, 'change' as charge_class, 10 as amount",
    )
    with open_warehouse(Settings(home=tmp_path), "test") as warehouse:
        for statement in tables:
            warehouse.execute(statement)
        charges = warehouse.arrow("select * from billing.charge").to_pylist()
        for charge in charges:
            section, worked_out = explanation._product_section(warehouse, charge)
            assert worked_out == charge["amount"], charge
            told = {fact.label: fact.value for fact in section.facts}
            assert told["explain.charged_for"] == f"occasion.{charge['ended_by'] or 'change'}"
    assert len(charges) == 4


def test_a_record_leads_to_the_usage_it_became(
    small_carrier: Settings, pages: Callable[[str, str], TestClient]
) -> None:
    outcome = "select _file_id, _record_number, cast(usage_id as varchar)"
    with read_warehouse(small_carrier, wait_s=30) as warehouse:
        became = [
            warehouse.rows(
                f"{outcome} from mediation.record_outcome where outcome = '{kind}'"
                " order by _file_id, _record_number limit 1"
            )[0]
            for kind in ("standard", "merged", "filtered")
        ]
    client = pages("admin", "en")
    for file_id, number, usage_id in became:
        asked = client.get("/explain/record", params={"file": file_id, "number": number})
        if usage_id is None:
            assert (asked.status_code, "became no usage" in asked.text) == (404, True)
        else:
            assert asked.headers["location"] == f"/explain/{usage_id}"
            assert client.get(f"/explain/{usage_id}").status_code == 200
    assert [usage_id is None for _, _, usage_id in became] == [False, False, True]
    path = {"file": became[0][0], "number": became[0][1]}
    assert pages("operator", "en").get("/explain/record", params=path).status_code == 403
