"""What a file of scenarios may hold, and that what it may not hold fails alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tollhouse import cli
from tollhouse.conformance import read_lines, run_scenarios
from tollhouse.scenario import ScenarioError, read_scenario
from tollhouse.settings import Profile, Settings

KNOWN = Path(__file__).parent / "rating_scenarios.jsonl"
BUNDLES = Path(__file__).parent / "bundle_scenarios.jsonl"

Document = dict[str, Any]


def document() -> Document:
    """One minute of a call at 0.1 a second by day, 0.2 by night."""
    slots = [{"from": "0", "to": None, "increment": "1", "per": "1", "price": "0.1"}]
    price = {"service": "voice", "model": "slots", "slots": slots, "connection_fee": "0"}
    return copy.deepcopy(
        {
            "id": "sound",
            "timezone": "UTC",
            "bands": {
                "day": [{"days": "mon-fri", "from": "08:00", "to": "22:00"}],
                "night": [{"days": "mon-fri", "from": "22:00", "to": "06:00"}],
            },
            "tariff": {
                "prices": [
                    price
                    | {
                        "id": "day",
                        "band": "day",
                        "rounding": {"at": "record", "mode": "up", "digits": 2},
                        "maximum": {"amount": "100", "strategy": "free"},
                    },
                    price | {"id": "night", "band": "night"},
                    price | {"id": "rest"},
                ],
                "allowances": [
                    {
                        "id": "a",
                        "size": "10",
                        "unit": "second",
                        "covers": ["day"],
                        "priority": 1,
                        "scope": "line",
                    }
                ],
            },
            "lines": ["L1"],
            "usage": [
                {
                    "id": "u1",
                    "line": "L1",
                    "service": "voice",
                    "started_at": "2026-10-05T10:00:00",
                    "quantity": "60",
                    "arrival": 1,
                }
            ],
            "expected": {"charges": {"u1": "5"}, "drawn": {"u1": {"a": "10"}}, "total": "5"},
        }
    )


def monthly() -> Document:
    """The same tariff at 31 a month, and bundles that its line L1 takes and leaves."""
    made = document()
    plans = [{"product": "tariff"}, {"product": "other", "fee_rule": "own"}]
    pack = {"product": "pack", "fee_rule": "replaced", "fee": "3.1"}
    products = [
        {"id": "pack", "type": "addon", "fee": "62"}, {"id": "other", "type": "plan"},
        {"id": "one", "type": "bundle", "fee": "93", "components": [plans[0], pack]},
        {"id": "two", "type": "bundle", "components": [*plans, pack]},
    ]  # fmt: skip
    order = {"line": "L1", "product": "one", "at": "2026-10-11T12:00:00",
             "end": "2026-10-21T00:00:00"}  # fmt: skip
    fees = {"L1": {"tariff": "21", "one": "30", "pack": "1"}}
    return made | {
        "month": "2026-10", "tariff": made["tariff"] | {"fee": "31"}, "products": products,
        "lines": ["L1", "L2"], "orders": [order],
        "expected": made["expected"] | {"fees": fees, "total": "57"},
    }  # fmt: skip


DELETE = object()


def changed(path: str, value: object, made: Document | None = None) -> Document:
    """The sound scenario with another value at a path such as ``usage.0.quantity``."""
    made = document() if made is None else made
    *way, last = path.split(".")
    at: Any = made
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at[part]
    key: Any = int(last) if isinstance(at, list) else last
    if value is DELETE:
        del at[key]
    else:
        at[key] = value
    return made | {"id": f"{path} {value!r}"[:60]}


# Path, value, what the message says.
WRONG: tuple[tuple[str, object, str], ...] = (
    ("expected", DELETE, "expected: is missing"),
    ("expected", {}, "nothing is expected"),
    ("expected", {"charges": {}}, "nothing is expected"),
    ("expected.totl", "1", "expected.totl: the format has no such key"),
    ("expected.total", 1.25, "decimal text"),
    ("expected.charges.u9", "1", "there is no usage 'u9'"),
    ("expected.drawn.u1.b", "0", "there is no allowance 'b'"),
    ("bnds", {}, "bnds: the format has no such key"),
    ("usage.0.qty", "1", "usage[0].qty: the format has no such key"),
    ("usage.0.quantity", "Infinity", "usage[0].quantity"),
    ("usage.0.quantity", "NaN", "usage[0].quantity"),
    ("usage.0.quantity", "1e15", "decimal text"),
    ("usage.0.quantity", "1000000000000000", "12 digits before the point"),
    ("usage.0.quantity", "0.0000001", "6 digits after the point"),
    ("usage.0.quantity", "99999999", "at most 7776000 seconds"),
    ("usage.0.quantity", None, "usage[0].quantity"),
    ("usage.0.started_at", "0001-01-01T00:00:00+14:00", "started_at"),
    ("usage.0.started_at", "noon", "ISO 8601"),
    ("usage.0.line", "L9", "there is no line 'L9'"),
    ("usage.0.service", "fax", "no price is of 'fax'"),
    ("usage.0.id", "\ud800", "surrogate"),
    ("usage", [], "usage: "),
    ("usage", [document()["usage"][0]] * 2, "'u1' is there twice"),
    ("usage", [
        document()["usage"][0],
        document()["usage"][0] | {"id": "u2", "started_at": "2026-11-01T00:00:00"},
    ], "usage.u2.started_at"),
    ("timezone", "Mars/Olympus", "there is no time zone 'Mars/Olympus'"),
    ("lines", ["L1", "L1"], "'L1' is there twice"),
    ("tariff.prices.0.connection_fee", "123456789012345678.9", "12 digits before the point"),
    ("tariff.prices.0.connection_fee", "-1", "below zero"),
    ("tariff.prices.0.connection_fee", 0.1, "decimal text"),
    ("tariff.prices.0.conection_fee", "1", "conection_fee: the format has no such key"),
    ("tariff.prices.0.rounding.mode", "banker", "only 'up', 'down' or 'half_up'"),
    ("tariff.prices.0.rounding.at", "item", "only 'record'"),
    ("tariff.prices.0.rounding.digits", -1, "rounding.digits"),
    ("tariff.prices.0.maximum.strategy", "split", "only 'free'"),
    ("tariff.prices.0.overhang", "eat", "only 'absorb' or 'each'"),
    ("tariff.prices.0.model", "flat", "'flat' is not allowed"),
    ("tariff.prices.0.model", "volume", "model volume needs `tiers`"),
    ("tariff.prices.0.package", {"size": "1", "price": "1"}, "model slots has no `package`"),
    ("tariff.prices.0.slots.0.increment", "0", "not above zero"),
    ("tariff.prices.0.slots.0.increment", DELETE, "a slot needs `increment`"),
    ("tariff.prices.0.slots.0.per", DELETE, "slots[0].per: is missing"),
    ("tariff.prices.0.band", "evening", "there is no band 'evening'"),
    ("tariff.prices.1.band", "day", "two prices of service 'voice'"),
    ("tariff.prices.1.id", "day", "'day' is there twice"),
    ("tariff.allowances.0.size", "-1", "below zero"),
    ("tariff.allowances.0.scope", "galaxy", "only 'line', 'shared' or 'pooled'"),
    ("tariff.allowances.0.unit", "minute", "'minute' is not allowed"),
    ("tariff.allowances.0.covers", ["dya"], "there is no price 'dya'"),
    ("bands.day.0.from", "25:00", "no time of day"),
    ("bands.day.0.to", "26:00", "no time of day"),
    ("bands.day.0.days", "moon", "no days of the week"),
    ("bands.day.0.to", "22:01", "overlap on mon at 22:00"),
    ("bands.night.0.days", "mon,mon-tue", "bands.night: its periods overlap on mon at 22:00"),
    ("bands.night.0.until", "06:00", "bands.night[0].until: the format has no such key"),
)  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_what_the_format_does_not_know_is_refused_by_field(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(ScenarioError) as refused:
        read_scenario(json.dumps(changed(path, value)))

    assert message in str(refused.value)


ORDER = monthly()["orders"][0]
PLAN = {"line": "L1", "product": "other", "at": "2026-10-12T00:00:00"}
WRONG_FEES: tuple[tuple[str, object, str], ...] = (
    ("month", DELETE, "tariff.fee: fees are of a month"),
    ("month", "2026-13", "month: "),
    ("month", "2026-09", "usage.u1.started_at: not in the month 2026-09"),
    ("month", "1969-12", "month: not in the years 1970 to 2199"),
    ("tariff.fee", "-1", "below zero"),
    ("tariff.first_month", "half", "only 'prorated', 'whole', 'half_after_mid' or 'free'"),
    ("tariff.allowances.0.scope", "pooled", "nothing is pooled where `month` is said"),
    ("products.0.id", "other", "products: 'other' is there twice"),
    ("products.0.id", "tariff", "products: 'tariff' is there twice"),
    ("products.0.type", "content", "only 'plan', 'addon' or 'bundle'"),
    ("products.0.components", [{"product": "tariff"}], "a bundle has them, and nothing else"),
    ("products.2.components", [], "a bundle has them, and nothing else has"),
    ("products.2.components.0.product", "two", "no plan and no add-on 'two'"),
    ("products.2.components.0.product", "pack", "'pack' is there twice"),
    ("products.2.components.1", {"product": "none"}, "no plan and no add-on 'none'"),
    ("products.2.components.1.fee", DELETE, "`fee` is there where fee_rule is replaced"),
    ("products.2.components.1.fee_rule", "own", "`fee` is there where fee_rule is replaced"),
    ("products.2.components.1.fee_rule", "half", "only 'included', 'own' or 'replaced'"),
    ("products.3.components.0", {"product": "pack"}, "'pack' is there twice"),
    ("orders.0.line", "L9", "there is no line 'L9'"),
    ("orders.0.product", "none", "there is no product 'none'"),
    ("orders.0.at", "noon", "orders[0].at: 'noon' is no moment"),
    ("orders.0.end", "2026-10-11T12:00:00", "orders[0].end: not after `at`"),
    ("orders.0.with", "L2", "names the other line of a bundle of two plans, and no other"),
    ("orders.0.product", "two", "names the other line of a bundle of two plans, and no other"),
    ("orders.0.to", "2026-10-21T00:00:00", "orders[0].to: the format has no such key"),
    ("orders", [ORDER | {"product": "other"}], "a plan ends when another begins"),
    ("orders", [ORDER, PLAN], "orders[1].at: line 'L1' is in a bundle then"),
    ("orders", [ORDER, ORDER | {"at": "2026-10-20T00:00:00"}], "is in a bundle then"),
    ("orders", [PLAN, PLAN | {"product": "tariff"}], "takes another plan then"),
    ("orders", [PLAN | {"at": "2026-10-05T10:00:30"}], "takes another plan during it"),
    ("expected.fees.L9", {"tariff": "1"}, "expected.fees: there is no line 'L9'"),
    ("expected.fees.L1.none", "1", "expected.fees.L1: there is no product 'none'"),
)  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG_FEES)
def test_what_fees_and_bundles_cannot_be_is_refused_by_field(
    path: str, value: object, message: str
) -> None:
    read_scenario(json.dumps(monthly()))
    with pytest.raises(ScenarioError) as refused:
        read_scenario(json.dumps(changed(path, value, monthly())))

    assert message in str(refused.value)


def test_a_month_may_have_no_usage_and_other_scenarios_may_not() -> None:
    read_scenario(json.dumps(monthly() | {"usage": [], "expected": {"total": "52"}}))
    with pytest.raises(ScenarioError, match="usage: at least one"):
        read_scenario(json.dumps(document() | {"usage": [], "expected": {"total": "0"}}))


@pytest.mark.parametrize(
    "text", ['{"id": "x", "id": "y"}', "[]", "7", "[" * 100_000, "9" * 5000, '{"a": NaN}']
)
def test_json_that_is_no_scenario_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError):
        read_scenario(text)


def test_every_key_of_the_known_scenarios_is_known_and_no_other() -> None:
    for line in (*read_lines(KNOWN), *read_lines(BUNDLES)):
        read_scenario(line)
        for path in _objects(json.loads(line)):
            if path in (("bands",), ("expected", "charges"), ("expected", "drawn")):
                continue
            spoilt = json.loads(line)
            at: Any = spoilt
            for part in path:
                at = at[part]
            at["mistake"] = "1"
            with pytest.raises(ScenarioError, match="mistake"):
                read_scenario(json.dumps(spoilt))


def _objects(value: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(value, dict):
        yield path
        for key, part in value.items():
            yield from _objects(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _objects(part, (*path, index))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOLLHOUSE_HOME", str(tmp_path / "home"))
    return tmp_path


def test_odd_lines_fail_alone_and_all_others_get_their_verdicts(home: Path) -> None:
    """Also one that is in the format, but whose charge no column holds."""
    dear = changed("usage.0.quantity", "7000000")
    dear["tariff"]["prices"][2]["slots"][0]["price"] = "9999999"
    wrong = [changed(path, value) for path, value, _ in WRONG]
    lines = [json.dumps(each) for each in (document(), *wrong, dear, document() | {"id": "last"})]
    file = home / "odd.jsonl"
    file.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")

    answer = CliRunner().invoke(cli.app, ["conformance", str(file), "--json"])

    assert answer.exit_code == 1, answer.output
    told = json.loads(answer.stdout)
    assert (told["passed"], told["failed"]) == (2, len(wrong) + 1)
    results = told["results"]
    assert [result["is_passed"] for result in results] == [True, *[False] * (len(wrong) + 1), True]
    for number, result in enumerate(results[1:-1], 2):
        assert f"line {number}: " in result["problem"]
    assert "12 digits" in results[-2]["problem"]
    assert results[-2]["scenario_id"] == dear["id"]


def test_a_file_without_scenarios_is_wrong_usage(home: Path) -> None:
    (home / "empty.jsonl").write_text("\n \n")

    assert CliRunner().invoke(cli.app, ["conformance", str(home / "empty.jsonl")]).exit_code == 2


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    file = tmp_path / "separated.jsonl"
    text = json.dumps(document() | {"note": "a\u2028b\u0085c"}, ensure_ascii=False)
    file.write_text(f"\ufeff{text}\r\n", encoding="utf-8")

    (line,) = read_lines(file)

    assert read_scenario(line)[0].note == "a\u2028b\u0085c"


def test_the_server_profile_rates_in_a_file_of_its_own_too(tmp_path: Path) -> None:
    """The databases named do not exist: to touch one would fail."""
    settings = Settings(
        home=tmp_path,
        profile=Profile.server,
        operational_url="postgresql://nobody@127.0.0.1:1/operational",
        warehouse_url="postgresql://nobody@127.0.0.1:1/warehouse",
        secret_key="for-this-test-alone",  # type: ignore[arg-type]
        admin_password="for-this-test-alone",  # type: ignore[arg-type]
    )

    (verdict,) = run_scenarios(settings, [json.dumps(document())])

    assert verdict.is_passed, verdict
    assert (tmp_path / "conformance" / "warehouse.duckdb").exists()
