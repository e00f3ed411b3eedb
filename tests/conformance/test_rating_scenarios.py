"""Rating by the models of production, held against known answers and against a clerk.

One run rates all of it: the known scenarios, random ones, and variants of them for which the
answer must be the same or mirrored.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conformance.oracle import Rated, rate
from tests.conformance.scenarios import monthly, scenario
from tollhouse import cli
from tollhouse.conformance import Verdict, read_lines, run_scenarios
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

KNOWN = Path(__file__).parent / "rating_scenarios.jsonl"
BUNDLES = Path(__file__).parent / "bundle_scenarios.jsonl"
RANDOM = 2000
MONTHS = 250
VARIED = 60
SEED = 20261125

Document = dict[str, Any]


@dataclass
class Rating:
    """All scenarios of the run, and what became of each."""

    documents: dict[str, Document]
    verdicts: dict[str, Verdict]

    def of(self, prefix: str) -> Iterator[tuple[str, Document, Verdict]]:
        for name, document in self.documents.items():
            if name.startswith(prefix):
                yield name.removeprefix(prefix), document, self.verdicts[name]

    def answers(self, prefix: str) -> dict[str, Verdict]:
        found = {name: verdict for name, _, verdict in self.of(prefix)}
        assert found, f"no scenario {prefix}…"
        return found


@pytest.fixture(scope="module")
def rating(tmp_path_factory: pytest.TempPathFactory) -> Rating:
    rng = random.Random(SEED)
    documents = {
        f"known {document['id']}": document for document in map(json.loads, read_lines(KNOWN))
    }
    documents |= {f"random {number}": scenario(rng, "") for number in range(RANDOM)}
    for kind, vary in VARIANTS.items():
        documents |= {
            f"{kind} {number}": document for number, document in enumerate(vary(rng, VARIED))
        }
    documents = {name: {"expected": {}} | document for name, document in documents.items()}
    for name, document in documents.items():
        if not name.startswith("known"):
            document["expected"] = _expected(document)
        document["id"] = name
    verdicts = run_scenarios(
        Settings(home=tmp_path_factory.mktemp("scenarios")),
        [json.dumps(document) for document in documents.values()],
    )
    return Rating(documents, {verdict.scenario_id: verdict for verdict in verdicts})


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Rating:
    """Scenarios of monthly fees, worked out by hand and random; usage comes in two runs."""
    rng = random.Random(SEED)
    documents = {
        f"bundle {document['id']}": document for document in map(json.loads, read_lines(BUNDLES))
    }
    for number in range(MONTHS):
        document = monthly(rng, "")
        documents[f"random {number}"] = document | {"expected": _expected(document)}
    for name, document in documents.items():
        document["id"] = name
    verdicts = run_scenarios(
        Settings(home=tmp_path_factory.mktemp("months")),
        [json.dumps(document) for document in documents.values()],
        runs=2,
    )
    return Rating(documents, {verdict.scenario_id: verdict for verdict in verdicts})


def test_bundles_cost_what_was_worked_out_by_hand(months: Rating) -> None:
    wrong = [
        (name, verdict.problem, verdict.expected, verdict.actual)
        for name, verdict in months.answers("bundle ").items() if not verdict.is_passed
    ]  # fmt: skip

    assert wrong == []


def test_the_clerk_finds_what_was_worked_out_by_hand() -> None:
    for document in map(json.loads, read_lines(BUNDLES)):
        rated, expected = rate(document), document["expected"]
        for line, fees in expected["fees"].items():
            for product, amount in fees.items():
                found = rated.fees[line].get(product, Fraction(0))
                assert found == Fraction(amount), (document["id"], line, product)
        assert rated.total == Fraction(expected["total"]), document["id"]


def test_hundreds_of_random_months_of_bundles_come_out_as_by_hand(months: Rating) -> None:
    wrong = [
        f"{name}: {verdict.problem or (verdict.expected, verdict.actual)}"
        for name, verdict in months.answers("random ").items()
        if not verdict.is_passed
    ]

    assert not wrong, f"{len(wrong)} differ, such as {min(wrong, key=len)}"


def test_random_months_reach_every_rule_of_fees(months: Rating) -> None:
    """How many of them come to something else without the rule."""
    without = {
        "components": lambda document: _with_products(document, components=_all_own),
        "first_month": lambda document: _with_products(document, first_month="prorated"),
        "last_month": lambda document: _with_products(document, last_month="prorated"),
        "end": lambda document: document | {
            "orders": [{name: value for name, value in order.items() if name != "end"}
                       for order in document["orders"]]
        },
    }  # fmt: skip
    counts = dict.fromkeys(without, 0)
    for _, document, _ in months.of("random "):
        for name, change in without.items():
            changed = change(document)
            counts[name] += changed is not None and rate(changed).fees != rate(document).fees
    assert {name: count for name, count in counts.items() if count < 10} == {}


def _with_products(document: Document, **terms: Any) -> Document:
    """The scenario with other terms of the products, where they have such."""
    products = [
        one | {
            name: value(one[name]) if callable(value) else value
            for name, value in terms.items() if name in one
        }
        for one in document["products"]
    ]  # fmt: skip
    return document | {"products": products}


def _all_own(components: list[Document]) -> list[Document]:
    return [{"product": one["product"], "fee_rule": "own"} for one in components]


def test_scenarios_known_from_other_billing_systems_come_out_as_there(rating: Rating) -> None:
    verdicts = rating.answers("known ")

    assert len(verdicts) == 50
    assert [name for name, verdict in verdicts.items() if not verdict.is_passed] == []


def test_the_clerk_gives_the_known_answers() -> None:
    for document in map(json.loads, read_lines(KNOWN)):
        rated, expected = rate(document), document["expected"]
        for usage, amount in expected.get("charges", {}).items():
            assert rated.charges[usage] == Fraction(amount), document["id"]
        for usage, draws in expected.get("drawn", {}).items():
            for allowance, quantity in draws.items():
                drawn = rated.drawn.get(usage, {}).get(allowance, Fraction(0))
                assert drawn == Fraction(quantity), document["id"]
        if "total" in expected:
            assert rated.total == Fraction(expected["total"]), document["id"]


def test_thousands_of_random_scenarios_come_out_as_by_hand(rating: Rating) -> None:
    wrong = [
        f"{name}: {verdict.problem or (verdict.expected, verdict.actual)}"
        for name, verdict in rating.answers("random ").items()
        if not verdict.is_passed
    ]

    assert not wrong, f"{len(wrong)} differ, such as {min(wrong, key=len)}"


def test_random_scenarios_reach_every_feature(rating: Rating) -> None:
    """What the comparison is worth: how many records each feature changes the charge of."""
    charges: dict[str, int] = {}
    for _, document, verdict in islice(rating.of("random "), RANDOM // 10):
        for name, without in FEATURES.items():
            changed = without(document)
            if changed is not None:
                rated = rate(changed)
                charges[name] = charges.get(name, 0) + sum(
                    Fraction(amount) != rated.charges[usage]
                    for usage, amount in verdict.actual["charges"].items()
                )

    assert {name: count for name, count in charges.items() if count < 10} == {}
    assert charges.keys() == FEATURES.keys()


def test_the_order_of_arrival_changes_nothing(rating: Rating) -> None:
    orderly, shuffled = rating.answers("orderly "), rating.answers("shuffled ")

    for name, verdict in orderly.items():
        assert shuffled[name].actual == verdict.actual


def test_usage_that_comes_in_several_runs_is_rated_as_if_it_came_at_once(
    rating: Rating, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, usages_at_once=500)
    several = {
        name: document | {"expected": rating.verdicts[name].actual}
        for name, document in rating.documents.items()
        if name.startswith(("known ", "refunded ", "pooled ")) or name.endswith("0")
    }
    verdicts = run_scenarios(settings, map(json.dumps, several.values()), runs=3)

    assert [verdict.scenario_id for verdict in verdicts if not verdict.is_passed] == []
    with open_warehouse(
        settings.model_copy(update={"home": settings.home / "conformance"}), "read what was kept"
    ) as warehouse:
        (counts,) = warehouse.rows(
            "select count(*) filter (rated_from > timestamp '1900-01-01'),"
            " count(*) filter (rated_from = timestamp '1900-01-01'),"
            " count(*) filter (is_rated_again and rated_from > timestamp '1900-01-01'),"
            " (select count(*) from billing.backdated_line),"
            " (select count(*) from billing.kept_draw), (select count(*) from billing.kept_total)"
            " from billing.dirty_line"
        )
    assert min(counts) > 20


def test_taking_every_record_back_gives_every_charge_and_draw_back(rating: Rating) -> None:
    for _, _, verdict in rating.of("refunded "):
        charges = verdict.actual["charges"]
        for usage, amount in charges.items():
            if usage.startswith("z"):
                original = usage.partition(" ")[2]
                assert Decimal(amount) == -Decimal(charges[original])
        assert Decimal(verdict.actual["total"]) == 0
        for allowance in {name for draws in verdict.actual["drawn"].values() for name in draws}:
            drawn = (draws.get(allowance, "0") for draws in verdict.actual["drawn"].values())
            assert sum(map(Decimal, drawn)) == 0


def test_a_record_in_two_halves_costs_the_same_where_the_cycle_is_priced(rating: Rating) -> None:
    whole, halved = rating.answers("whole "), rating.answers("halved ")

    for name, verdict in whole.items():
        assert halved[name].actual["total"] == verdict.actual["total"]


def test_a_pool_is_as_a_shared_allowance_of_the_lines_sizes_together(rating: Rating) -> None:
    pooled, shared = rating.answers("pooled "), rating.answers("shared ")

    for name, verdict in pooled.items():
        assert shared[name].actual == verdict.actual


def test_no_allowance_gives_more_than_its_size_or_less_than_nothing(rating: Rating) -> None:
    seen = 0
    for _, document, verdict in rating.of("random "):
        lines = {usage["id"]: usage["line"] for usage in document["usage"]}
        drawn: dict[tuple[str, str | None], Decimal] = {}
        sizes = {each["id"]: each for each in document["tariff"]["allowances"]}
        for usage, draws in verdict.actual["drawn"].items():
            for allowance, quantity in draws.items():
                is_own = sizes[allowance]["scope"] == "line"
                bucket = allowance, lines[usage] if is_own else None
                drawn[bucket] = drawn.get(bucket, Decimal(0)) + Decimal(quantity)
        for (allowance, _), quantity in drawn.items():
            times = len(document["lines"]) if sizes[allowance]["scope"] == "pooled" else 1
            assert 0 <= quantity <= Decimal(sizes[allowance]["size"]) * times
            seen += 1
    assert seen > RANDOM / 4


@pytest.mark.parametrize(
    ("started_at", "quantity", "charge"),
    [
        ("2026-10-25T01:59:00", "60", "0"),
        ("2026-10-25T02:59:00+02:00", "120", "12"),  # both hours that show 02 are in the band
        ("2026-10-25T01:00:00", "14400", "720"),
        ("2026-10-18T01:00:00", "14400", "360"),
        ("2026-03-29T01:59:00", "120", "0"),  # 02 is not shown
        ("2026-03-29T01:00:00", "14400", "0"),
    ],
)
def test_a_band_holds_while_the_clock_shows_it(started_at: str, quantity: str, charge: str) -> None:
    """0.1 a second from 02:00 to 03:00 on Sundays, nothing else."""
    document = _banded_by_the_hour(started_at, quantity)

    assert rate(document).total == Fraction(charge)


def test_a_wrong_expectation_fails_the_command_and_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLHOUSE_HOME", str(tmp_path / "home"))
    right = _banded_by_the_hour("2026-10-25T01:00:00", "14400")
    wrong = right | {"id": "wrong", "expected": {"charges": {"u1": "1"}}}
    file = tmp_path / "scenarios.jsonl"
    file.write_text(f"{json.dumps(right)}\n{json.dumps(wrong)}\n{{not JSON\n", encoding="utf-8")

    answer = CliRunner().invoke(cli.app, ["conformance", str(file)])

    assert answer.exit_code == 1
    shown = answer.stdout.splitlines()
    assert [line.split()[0] for line in shown[:3]] == ["pass", "FAIL", "FAIL"]
    assert '"1"' in shown[1] and '"720"' in shown[1]
    assert "line 3" in shown[2]
    assert shown[3] == "1 passed, 2 failed"


def test_right_expectations_pass_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLHOUSE_HOME", str(tmp_path / "home"))
    file = tmp_path / "scenarios.jsonl"
    file.write_text(json.dumps(_banded_by_the_hour("2026-10-18T01:00:00", "3661")) + "\n")

    answer = CliRunner().invoke(cli.app, ["conformance", str(file), "--json"])

    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["passed"] == 1


# Variants -------------------------------------------------------------------------------------


def _orderly(rng: random.Random, count: int) -> Iterator[Document]:
    del rng
    own = random.Random(1)
    for _ in range(count):
        yield scenario(own, "")


def _shuffled(rng: random.Random, count: int) -> Iterator[Document]:
    for document in _orderly(rng, count):
        usage = [
            record | {"arrival": len(document["usage"]) - record["arrival"]}
            for record in document["usage"]
        ]
        rng.shuffle(usage)
        yield document | {"usage": usage}


def _refunded(rng: random.Random, count: int) -> Iterator[Document]:
    """Every record taken back, the last first, where neither bands nor a first flat fee matter."""
    found = 0
    while found < count:
        document = scenario(rng, "")
        prices = document["tariff"]["prices"]
        if any(
            "band" in price or Decimal(price.get("tiers", [{}])[0].get("flat", 0))
            for price in prices
        ):
            continue
        records = sorted(
            document["usage"],
            key=lambda each: (datetime.fromisoformat(each["started_at"]), each["id"]),
        )
        end = datetime.fromisoformat(records[-1]["started_at"]) + timedelta(hours=6)
        if (end + timedelta(seconds=len(records))).month != datetime.fromisoformat(
            records[0]["started_at"]
        ).month:
            continue  # all usage of a scenario lies in one month
        back = [
            record
            | {
                "id": f"z{number} {record['id']}",
                "quantity": format(-Decimal(record["quantity"]), "f"),
                "started_at": (end + timedelta(seconds=number)).isoformat(),
            }
            for number, record in enumerate(reversed(records))
        ]
        found += 1
        yield document | {"usage": records + back}


def _whole(rng: random.Random, count: int) -> Iterator[Document]:
    """Prices over the cycle alone, and even quantities: halves add up to the whole."""
    del rng
    own = random.Random(2)
    found = 0
    while found < count:
        document = scenario(own, "")
        prices = [
            price
            for price in document["tariff"]["prices"]
            if price["model"] != "slots" and "band" not in price
        ]
        names = {price["service"] for price in prices}
        usage = [record for record in document["usage"] if record["service"] in names]
        if not usage:
            continue
        for price in prices:
            for limit in ("connection_fee", "minimum", "maximum", "rounding"):
                price.pop(limit, None)
            for tier in price.get("tiers", []):  # no halves of what is kept of a charge
                tier["price"] = str(round(Decimal(tier["price"]), 3))
        kept = {price["id"] for price in prices}
        allowances = [
            allowance | {"covers": [name for name in allowance["covers"] if name in kept]}
            for allowance in document["tariff"]["allowances"]
            if kept & set(allowance["covers"])
        ]
        even = [
            record | {"quantity": str(2 * int(Decimal(record["quantity"])))} for record in usage
        ]
        tariff = {"prices": prices, "allowances": allowances}
        found += 1
        yield document | {"tariff": tariff, "usage": even}


def _halved(rng: random.Random, count: int) -> Iterator[Document]:
    for document in _whole(rng, count):
        halves = [
            record | {"id": f"{record['id']} {half}", "quantity": str(int(record["quantity"]) // 2)}
            for record in document["usage"]
            for half in ("a", "b")
        ]
        yield document | {"usage": halves}


def _pooled(rng: random.Random, count: int) -> Iterator[Document]:
    del rng
    own = random.Random(3)
    found = 0
    while found < count:
        document = scenario(own, "")
        allowances = document["tariff"]["allowances"]
        if len(document["lines"]) > 1 and any(each["scope"] == "pooled" for each in allowances):
            found += 1
            yield document


def _shared(rng: random.Random, count: int) -> Iterator[Document]:
    for document in _pooled(rng, count):
        allowances = [
            allowance
            | {
                "scope": "shared",
                "size": str(Decimal(allowance["size"]) * len(document["lines"])),
            }
            if allowance["scope"] == "pooled"
            else allowance
            for allowance in document["tariff"]["allowances"]
        ]
        yield document | {"tariff": document["tariff"] | {"allowances": allowances}}


VARIANTS: dict[str, Callable[[random.Random, int], Iterator[Document]]] = {
    "orderly": _orderly,
    "shuffled": _shuffled,
    "refunded": _refunded,
    "whole": _whole,
    "halved": _halved,
    "pooled": _pooled,
    "shared": _shared,
}


def _without(part: str) -> Callable[[Document], Document | None]:
    """The scenario as if no price had the part; None if none has."""

    def without(document: Document) -> Document | None:
        prices = document["tariff"]["prices"]
        if not any(part in price for price in prices):
            return None
        stripped = [{key: value for key, value in price.items() if key != part} for price in prices]
        return document | {"tariff": document["tariff"] | {"prices": stripped}}

    return without


def _without_allowances(kind: str, value: str) -> Callable[[Document], Document | None]:
    def without(document: Document) -> Document | None:
        allowances = document["tariff"]["allowances"]
        kept = [allowance for allowance in allowances if allowance[kind] != value]
        if len(kept) == len(allowances):
            return None
        return document | {"tariff": document["tariff"] | {"allowances": kept}}

    return without


def _in_another_zone(document: Document) -> Document | None:
    return document | {"timezone": "UTC"} if document["timezone"] != "UTC" else None


FEATURES: dict[str, Callable[[Document], Document | None]] = {
    **{
        part: _without(part)
        for part in ("connection_fee", "minimum", "maximum", "rounding", "overhang")
    },
    **{
        f"{kind} {value}": _without_allowances(kind, value)
        for kind, values in {
            "unit": ("second", "octet", "event", "quantity", "money"),
            "scope": ("line", "shared", "pooled"),
        }.items()
        for value in values
    },
    "timezone": _in_another_zone,
}


def _expected(document: Document) -> Document:
    rated: Rated = rate(document)
    return {
        "charges": {usage: _text(amount) for usage, amount in rated.charges.items()},
        "drawn": {
            usage["id"]: {
                allowance["id"]: _text(
                    rated.drawn.get(usage["id"], {}).get(allowance["id"], Fraction(0))
                )
                for allowance in document["tariff"]["allowances"]
            }
            for usage in document["usage"]
        },
        "total": _text(rated.total),
    } | (
        {
            "fees": {
                line: {product: _text(amount) for product, amount in fees.items()}
                for line, fees in rated.fees.items()
            }
        }
        if document.get("month")
        else {}
    )


def _text(value: Fraction) -> str:
    """A number of at most six decimals, exactly."""
    micro = value * 1_000_000
    assert micro.denominator == 1
    return format(Decimal(micro.numerator).scaleb(-6), "f")


def _banded_by_the_hour(started_at: str, quantity: str) -> Document:
    document: Document = {
        "id": "hour",
        "timezone": "Europe/Berlin",
        "bands": {"hour": [{"days": "sun", "from": "02:00", "to": "03:00"}]},
        "tariff": {
            "prices": [
                {
                    "id": name,
                    "service": "voice",
                    "model": "slots",
                    "slots": [
                        {"from": "0", "to": None, "increment": "1", "per": "1", "price": price}
                    ],
                }
                for name, price in (("hour", "0.1"), ("rest", "0"))
            ],
            "allowances": [],
        },
        "lines": ["L1"],
        "usage": [
            {
                "id": "u1",
                "line": "L1",
                "service": "voice",
                "started_at": started_at,
                "quantity": quantity,
            }
        ],
    }
    document["tariff"]["prices"][0]["band"] = "hour"
    return document | {"expected": _expected(document)}
