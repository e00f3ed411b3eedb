"""Rating scenarios 批价场景: small tariffs and usages with known answers.

A file holds one scenario a line (JSON). All of them are laid side by side, as tariffs and lines of
their own, in an empty warehouse, and rated by one run of the dbt models that rate a month: what
passes here is what bills.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa

from operational.catalogue.price_steps import (
    PriceStepError,
    Step,
    Tier,
    common_denominator,
    compile_price,
    step_rows,
)
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse, transform

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_SECONDS = 86_400
UNITS = {"voice": "second", "data": "octet"}
OTHERWISE = "otherwise"

# From what is extracted and classified to what is charged: the models of step `rate`.
MODELS = (
    "ods__account", "ods__subscription", "ods__product_instance", "ods__price_plan_version",
    "ods__charge_class", "ods__usage_price", "ods__price_step", "ods__calendar_period",
    "ods__calendar_holiday", "ods__number_area", "ods__friend_number", "ods__call_group_member",
    "billing__group_number", "ods__allowance", "ods__allowance_coverage", "ods__billing_cycle",
    "billing__product_holding", "billing__class_ancestor", "billing__class_price",
    "billing__priced_class", "billing__price_step", "billing__price_rule", "billing__cycle_clock",
    "billing__billed_cycle", "billing__cycle_line", "billing__plan_in_cycle", "billing__late_usage",
    "billing__guiding_change", "billing__usage_guide", "billing__guided_fact",
    "billing__guided_usage", "billing__allowance_cover", "billing__allowance_bucket",
    "billing__allowance_access", "billing__rating_input", "billing__backdated_line",
    "billing__dirty_line", "billing__kept_draw", "billing__kept_total",
    "billing__band_period", "billing__split_usage", "billing__usage_segment",
    "billing__allowance_draw", "billing__usage_charge", "billing__money_draw",
    "billing__rated_line",
)  # fmt: skip

_TEXT, _MOMENT, _WHOLE = pa.string(), pa.timestamp("us"), pa.int64()
_QUANTITY, _AMOUNT, _NUMERATOR = pa.decimal128(24, 6), pa.decimal128(18, 6), pa.decimal128(38, 0)
_ALWAYS = datetime(1900, 1, 1)  # noqa: DTZ001 - as the warehouse keeps moments: UTC, without a zone
_NEVER = datetime(2200, 1, 1)  # noqa: DTZ001

# What the models read, with the columns they read of it.
_RAW: dict[str, dict[str, pa.DataType]] = {
    "crm_account": {
        "account_id": _TEXT, "customer_id": _TEXT, "account_name": _TEXT, "bill_language": _TEXT,
        "status": _TEXT, "time_zone": _TEXT, "province_code": _TEXT,
    },
    "crm_subscription": {
        "subscription_id": _TEXT, "account_id": _TEXT, "msisdn": _TEXT, "imsi": _TEXT,
        "service_type": _TEXT, "payment_type": _TEXT, "status": _TEXT, "valid_from": _MOMENT,
        "valid_to": _MOMENT, "province_code": _TEXT,
    },
    "crm_product_instance": {
        "product_instance_id": _TEXT, "subscription_id": _TEXT, "offering_id": _TEXT,
        "role": _TEXT, "valid_from": _MOMENT, "valid_to": _MOMENT,
    },
    # Scenarios say what usage is classified as: nobody is called who has a price of his own.
    "crm_friend_number": {
        "friend_number_id": _WHOLE, "subscription_id": _TEXT, "number": _TEXT,
        "valid_from": _MOMENT, "valid_to": _MOMENT,
    },
    "crm_call_group_member": {
        "call_group_member_id": _WHOLE, "call_group_id": _TEXT, "subscription_id": _TEXT,
        "short_number": _TEXT, "valid_from": _MOMENT, "valid_to": _MOMENT,
    },
    "number_segment_area": {"segment": _TEXT, "area_code": _TEXT},
    "catalogue_price_plan_version": {
        "plan_version_id": _TEXT, "offering_id": _TEXT, "version_number": _WHOLE,
        "valid_from": _MOMENT, "valid_to": _MOMENT, "monthly_fee_amount": _AMOUNT,
        "calendar_id": _TEXT, "cost_denominator": _WHOLE, "first_month_rule": _TEXT,
        "last_month_rule": _TEXT, "suspension_fee_amount": _AMOUNT,
        "minimum_consumption_amount": _AMOUNT, "late_usage_policy": _TEXT, "currency_code": _TEXT,
    },
    "catalogue_charge_class": {
        "charge_class": _TEXT, "parent_class": _TEXT, "before_class": _TEXT, "service": _TEXT,
        "unit": _TEXT, "bill_item_code": _TEXT, "name_zh": _TEXT, "name_en": _TEXT,
    },
    "catalogue_usage_price": {
        "usage_price_id": _TEXT, "plan_version_id": _TEXT, "charge_class": _TEXT, "band": _TEXT,
        "model": _TEXT, "connection_fee_amount": _AMOUNT, "minimum_amount": _AMOUNT,
        "maximum_amount": _AMOUNT, "repeat_quantity": _QUANTITY, "rounding_mode": _TEXT,
        "rounding_digits": _WHOLE, "bill_item_code": _TEXT,
    },
    "catalogue_price_step": {
        "usage_price_id": _TEXT, "step_number": _WHOLE, "above_quantity": _QUANTITY,
        "up_to_quantity": _QUANTITY, "start_quantity": _QUANTITY, "cap_quantity": _QUANTITY,
        "increment_quantity": _QUANTITY, "base_numerator": _NUMERATOR,
        "unit_numerator": _NUMERATOR,
    },
    "catalogue_calendar_period": {
        "calendar_id": _TEXT, "band": _TEXT, "day_type": _TEXT, "from_second": _WHOLE,
        "to_second": _WHOLE,
    },
    "catalogue_calendar_holiday": {"calendar_id": _TEXT, "holiday_date": pa.date32()},
    "catalogue_allowance": {
        "allowance_id": _TEXT, "plan_version_id": _TEXT, "unit": _TEXT, "size_quantity": _QUANTITY,
        "priority": _WHOLE, "scope": _TEXT, "quantity_basis": _TEXT,
        "rounding_increment": _QUANTITY, "rollover_months": _WHOLE,
    },
    "catalogue_allowance_coverage": {
        "allowance_id": _TEXT, "charge_class": _TEXT, "band": _TEXT,
    },
    "billing_billing_cycle": {
        "cycle_id": _TEXT, "starts_at": _MOMENT, "ends_at": _MOMENT, "state": _TEXT,
    },
}  # fmt: skip
_CLASSIFIED = {
    "usage_id": _TEXT, "service": _TEXT, "direction": _TEXT, "served_msisdn": _TEXT,
    "other_party": _TEXT, "is_abroad": pa.bool_(), "visited_province_code": _TEXT,
    "area_prefix": _TEXT, "serving_area_code": _TEXT, "content_version_id": _TEXT,
    "charge_class": _TEXT, "unit": _TEXT, "quantity_micro": _WHOLE, "started_at": _MOMENT,
    "_file_id": _TEXT,
}  # fmt: skip


# All usage of a scenario lies in one cycle; one that is long enough serves them all.
_CYCLE = {"cycle_id": "scenarios", "starts_at": _ALWAYS, "ends_at": _NEVER, "state": "open"}


class ScenarioError(ValueError):
    """A scenario cannot be read; the message says what of it."""


@dataclass(frozen=True)
class Verdict:
    """What became of one scenario.

    Attributes:
        scenario_id: its id, or the line it stands on where it has none.
        is_passed: whether all that it expects came out.
        expected: as in the file.
        actual: the same keys, as rated.
        problem: why it could not be rated, if it could not.
    """

    scenario_id: str
    is_passed: bool
    expected: dict[str, Any] = field(default_factory=dict)
    actual: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


Row = dict[str, Any]


@dataclass
class _Scenario:
    """One scenario laid into the warehouse's tables."""

    number: int
    scenario_id: str
    expected: dict[str, Any]
    rows: dict[str, list[Row]]
    usage_names: dict[str, str]  # id in the warehouse → id in the scenario


def run_scenarios(settings: Settings, lines: Iterable[str], *, runs: int = 1) -> list[Verdict]:
    """Rate the scenarios and compare; verdicts in the order of the lines.

    The warehouse they are rated in stands below the home and is made anew; the home's own is not
    touched.

    Args:
        settings: says where the home is.
        lines: the scenarios, as JSON.
        runs: in how many runs usage comes and is rated: in the order in which it happened but, of
            every fourth scenario, in the order in which it stands there.
    """
    scenarios: list[_Scenario | Verdict] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            scenarios.append(_read(number, line))
        except ScenarioError as error:
            scenarios.append(Verdict(_id_of(line, number), False, problem=str(error)))
    laid = [scenario for scenario in scenarios if isinstance(scenario, _Scenario)]
    charges, draws = _rate(settings, laid, runs)
    return [
        _judge(scenario, charges, draws) if isinstance(scenario, _Scenario) else scenario
        for scenario in scenarios
    ]


def _rate(
    settings: Settings, scenarios: Sequence[_Scenario], runs: int
) -> tuple[dict[str, Decimal], dict[str, dict[str, Decimal]]]:
    """Charges by usage, and by usage what was drawn from each allowance."""
    if not scenarios:
        return {}, {}
    scratch = settings.model_copy(update={"home": settings.home / "conformance"})
    shutil.rmtree(scratch.warehouse_file.parent, ignore_errors=True)
    with open_warehouse(scratch, "lay scenarios") as warehouse:
        for table, columns in _RAW.items():
            rows = [row for scenario in scenarios for row in scenario.rows[table]]
            rows += [_CYCLE] if table == "billing_billing_cycle" else []
            _write(warehouse, f"raw.{table}", columns, rows)
        _write(warehouse, "ods.area_code", {"area_code": _TEXT}, [])
        usage = [row for scenario in scenarios for row in _arriving(scenario, runs)]
        _write(warehouse, "raw.scenario_usage", _CLASSIFIED, usage)
    for run in range(runs):
        with open_warehouse(scratch, "deliver usage") as warehouse:
            warehouse.execute(
                "create or replace table billing.classified_usage as"
                " select * replace (cast(usage_id as uuid) as usage_id) from raw.scenario_usage"
                " where cast(_file_id as integer) <= ?",
                [run],
            )
            # Nothing but usage changes from run to run.
            warehouse.execute(
                "create or replace table billing.guiding_fact as"
                " select distinct 'file' as kind, _file_id as name, cast(null as uuid) as line_key,"
                " '' as digest from billing.classified_usage"
            )
        transform(scratch, list(MODELS), command="run")
    with open_warehouse(scratch, "read charges") as warehouse:
        amounts = warehouse.rows(
            "select cast(usage_id as varchar), sum(amount) from billing.usage_charge group by all"
        )
        drawn = warehouse.rows(
            "select cast(usage_id as varchar), allowance_id,"
            " cast(sum(drawn_micro) as decimal(38, 0)) from billing.allowance_draw"
            " inner join billing.allowance_bucket using (bucket_id) group by all"
        )
        paid = warehouse.rows(
            "select cast(usage_id as varchar), allowance_id, sum(drawn_amount)"
            " from billing.money_draw inner join billing.allowance_bucket using (bucket_id)"
            " group by all"
        )
    charges = {usage_id: Decimal(amount) for usage_id, amount in amounts}
    draws: dict[str, dict[str, Decimal]] = {}
    for usage_id, allowance_id, micro in drawn:
        draws.setdefault(usage_id, {})[allowance_id] = Decimal(micro).scaleb(-6)
    for usage_id, allowance_id, amount in paid:
        draws.setdefault(usage_id, {})[allowance_id] = Decimal(amount)
        charges[usage_id] -= Decimal(amount)
    return charges, draws


def _arriving(scenario: _Scenario, runs: int) -> Iterator[Row]:
    """The usage of a scenario, the number of the run it comes in as its file."""
    rows = scenario.rows["classified_usage"]
    if scenario.number % 4:
        rows = sorted(rows, key=lambda row: row["started_at"])
    for number, row in enumerate(rows):
        yield row | {"_file_id": str(number * runs // len(rows))}


def _write(
    warehouse: Any, table: str, columns: Mapping[str, pa.DataType], rows: Sequence[Row]
) -> None:
    schema = pa.schema([*columns.items(), ("_loaded_at", _MOMENT)])
    arrow = pa.Table.from_pylist([{**row, "_loaded_at": _ALWAYS} for row in rows], schema=schema)
    warehouse.connection.register("_scenario_rows", arrow)
    warehouse.execute(f"create table {table} as select * from _scenario_rows")  # noqa: S608
    warehouse.connection.unregister("_scenario_rows")


def _judge(
    scenario: _Scenario,
    charges: Mapping[str, Decimal],
    draws: Mapping[str, Mapping[str, Decimal]],
) -> Verdict:
    rated = {
        name: charges[usage_id]
        for usage_id, name in scenario.usage_names.items()
        if usage_id in charges
    }
    drawn = {
        name: {
            allowance_id.partition("/")[2]: quantity
            for allowance_id, quantity in draws[usage_id].items()
        }
        for usage_id, name in scenario.usage_names.items()
        if usage_id in draws
    }
    expected, actual, is_passed = scenario.expected, dict[str, Any](), True
    if "charges" in expected:
        wanted = {name: _number(value) for name, value in expected["charges"].items()}
        found = {name: rated.get(name) for name in wanted}
        actual["charges"] = {name: _shown(value) for name, value in found.items()}
        is_passed &= found == wanted
    if "drawn" in expected:
        wanted_draws = {
            (name, allowance): _number(value)
            for name, by_allowance in expected["drawn"].items()
            for allowance, value in by_allowance.items()
        }
        actual["drawn"] = {
            name: {allowance: _shown(value) for allowance, value in by_allowance.items()}
            for name, by_allowance in drawn.items()
        }
        is_passed &= all(
            drawn.get(name, {}).get(allowance, Decimal(0)) == value
            for (name, allowance), value in wanted_draws.items()
        )
    if "total" in expected:
        total = sum(rated.values(), Decimal(0))
        actual["total"] = _shown(total)
        is_passed &= total == _number(expected["total"])
    missing = [name for name in scenario.usage_names.values() if name not in rated]
    problem = None
    if missing:
        is_passed = False
        problem = f"not rated, since no price holds for it: {', '.join(missing)}"
    return Verdict(scenario.scenario_id, is_passed, expected, actual, problem)


def _read(number: int, line: str) -> _Scenario:
    """A scenario as rows of the tables that the models read.

    Raises:
        ScenarioError: it lacks something or says something that has no meaning.
    """
    try:
        document = json.loads(line, parse_float=Decimal)
        return _Laying(number, document).scenario()
    except json.JSONDecodeError as error:
        raise ScenarioError(f"line {number} is no JSON at character {error.pos}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ScenarioError(f"line {number}: {type(error).__name__}: {error}") from error
    except PriceStepError as error:
        raise ScenarioError(f"line {number}: {error}") from error


class _Laying:
    """Lays one scenario into rows; every id begins with the scenario's number."""

    def __init__(self, number: int, document: Mapping[str, Any]) -> None:
        self._prefix = f"{number}/"
        self._number = number
        self._document = document
        self._prices = document["tariff"]["prices"]
        self._rows: dict[str, list[Row]] = {table: [] for table in (*_RAW, "classified_usage")}
        self._bands = {price["id"]: price.get("band") for price in self._prices}

    def scenario(self) -> _Scenario:
        self._lay_calendar()
        self._lay_tariff()
        self._lay_lines()
        names = self._lay_usage()
        return _Scenario(
            self._number,
            str(self._document.get("id", f"line {self._number}")),
            dict(self._document.get("expected", {})),
            self._rows,
            names,
        )

    def _id(self, name: object) -> str:
        return f"{self._prefix}{name}"

    def _add(self, table: str, **row: Any) -> None:
        self._rows[table].append(row)

    def _lay_calendar(self) -> None:
        """Bands as declared; of a service priced in bands, the price without one has the rest."""
        periods = {
            band: [part for period in declared for part in _periods(period)]
            for band, declared in self._document.get("bands", {}).items()
        }
        by_service: dict[str, list[Mapping[str, Any]]] = {}
        for price in self._prices:
            by_service.setdefault(price["service"], []).append(price)
        for service, prices in by_service.items():
            named = [price["band"] for price in prices if price.get("band")]
            plain = [price for price in prices if not price.get("band")]
            if len(set(named)) < len(named) or len(plain) > 1:
                raise ScenarioError(f"two prices of service {service!r} hold at the same time")
            unknown = set(named) - periods.keys()
            if unknown:
                raise ScenarioError(f"band {', '.join(sorted(unknown))!r} is not declared")
            if named and plain:
                band = f"{OTHERWISE} {service}"
                self._bands[plain[0]["id"]] = band
                periods[band] = list(_rest([part for name in named for part in periods[name]]))
        for band, parts in periods.items():
            for day, begin, end in parts:
                self._add(
                    "catalogue_calendar_period",
                    calendar_id=self._id("calendar"), band=band, day_type=DAYS[day],
                    from_second=begin, to_second=end,
                )  # fmt: skip

    def _lay_tariff(self) -> None:
        steps = {price["id"]: _compiled(price) for price in self._prices}
        denominator = common_denominator(steps.values())
        for plan in ("plan", "shared"):
            self._add(
                "catalogue_price_plan_version",
                plan_version_id=self._id(plan), offering_id=self._id(plan), version_number=1,
                valid_from=_ALWAYS, valid_to=None, monthly_fee_amount=Decimal(0),
                calendar_id=self._id("calendar"), cost_denominator=denominator,
                first_month_rule="prorated", last_month_rule="prorated",
                suspension_fee_amount=None, minimum_consumption_amount=None,
                late_usage_policy="next_bill", currency_code="CNY",
            )  # fmt: skip
        for service in {price["service"] for price in self._prices}:
            self._add(
                "catalogue_charge_class",
                charge_class=self._id(service), service=service, unit=self._unit(service),
                bill_item_code=service,
            )  # fmt: skip
        for price in self._prices:
            rounding = price.get("rounding") or {}
            maximum = price.get("maximum") or {}
            self._add(
                "catalogue_usage_price",
                usage_price_id=self._id(price["id"]), plan_version_id=self._id("plan"),
                charge_class=self._id(price["service"]), band=self._bands[price["id"]],
                model=price["model"],
                connection_fee_amount=_number(price.get("connection_fee") or 0),
                minimum_amount=_optional(_amount_of(price.get("minimum"))),
                maximum_amount=_optional(maximum.get("amount")),
                repeat_quantity=_optional(price.get("repeat")),
                rounding_mode=rounding.get("mode", "half_up"),
                rounding_digits=min(6, int(rounding.get("digits", 6))),
                bill_item_code=price["service"],
            )  # fmt: skip
            for row in step_rows(steps[price["id"]], denominator):
                self._add(
                    "catalogue_price_step",
                    usage_price_id=self._id(price["id"]),
                    **vars(row),
                )
        services = {price["id"]: price["service"] for price in self._prices}
        for allowance in self._document["tariff"].get("allowances", []):
            plan = "shared" if allowance["scope"] == "shared" else "plan"
            self._add(
                "catalogue_allowance",
                allowance_id=self._id(allowance["id"]), plan_version_id=self._id(plan),
                unit=allowance["unit"], size_quantity=_number(allowance["size"]),
                priority=int(allowance.get("priority", 1)), scope=allowance["scope"],
                quantity_basis="raw", rounding_increment=Decimal(1), rollover_months=0,
            )  # fmt: skip
            for price_id in allowance["covers"]:
                if price_id not in services:
                    raise ScenarioError(
                        f"allowance {allowance['id']!r} covers {price_id!r}, which is no price"
                    )
                self._add(
                    "catalogue_allowance_coverage",
                    allowance_id=self._id(allowance["id"]),
                    charge_class=self._id(services[price_id]), band=self._bands[price_id],
                )  # fmt: skip

    def _lay_lines(self) -> None:
        """Every line holds the plan; what all lines share is held by the first."""
        self._add(
            "crm_account",
            account_id=self._id("account"), customer_id=self._id("customer"),
            time_zone=self._zone().key, province_code="00",
        )  # fmt: skip
        for index, line in enumerate(self._document["lines"]):
            self._add(
                "crm_subscription",
                subscription_id=self._id(line), account_id=self._id("account"),
                msisdn=self._id(line), valid_from=_ALWAYS, valid_to=None, province_code="00",
            )  # fmt: skip
            for plan in ("plan", "shared") if index == 0 else ("plan",):
                self._add(
                    "crm_product_instance",
                    product_instance_id=self._id(f"{line}/{plan}"),
                    subscription_id=self._id(line), offering_id=self._id(plan),
                    role="plan" if plan == "plan" else "addon", valid_from=_ALWAYS, valid_to=None,
                )  # fmt: skip

    def _lay_usage(self) -> dict[str, str]:
        names: dict[str, str] = {}
        usages = self._document["usage"]
        known = {price["service"] for price in self._prices}
        if len({usage["id"] for usage in usages}) < len(usages):
            raise ScenarioError("two usages have the same id")
        for rank, usage in enumerate(sorted(usages, key=lambda each: str(each["id"]))):
            if usage["service"] not in known:
                raise ScenarioError(
                    f"usage {usage['id']!r} is of service {usage['service']!r}, which no price has"
                )
            if usage["line"] not in self._document["lines"]:
                raise ScenarioError(f"usage {usage['id']!r} is of line {usage['line']!r}")
            # Ids that sort as the scenario's do: rating goes by (moment, id).
            usage_id = f"{self._number:08x}-0000-0000-0000-{rank:012x}"
            names[usage_id] = str(usage["id"])
            micro = _number(usage["quantity"]).scaleb(6)
            if micro != micro.to_integral_value():
                raise ScenarioError(f"the quantity of {usage['id']!r} has more than six decimals")
            self._add(
                "classified_usage",
                usage_id=usage_id, service=usage["service"], direction="mo",
                served_msisdn=self._id(usage["line"]), is_abroad=False,
                visited_province_code=None, charge_class=self._id(usage["service"]),
                unit=self._unit(usage["service"]), quantity_micro=int(micro),
                started_at=self._moment(usage["started_at"]),
            )  # fmt: skip
        return names

    def _unit(self, service: str) -> str:
        """Seconds for voice and for what an allowance of seconds covers."""
        covered = {
            price_id
            for allowance in self._document["tariff"].get("allowances", [])
            if allowance["unit"] == "second"
            for price_id in allowance["covers"]
        }
        timed = {price["service"] for price in self._prices if price["id"] in covered}
        return "second" if service in timed else UNITS.get(service, "event")

    def _zone(self) -> ZoneInfo:
        name = self._document.get("timezone", "UTC")
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ScenarioError(f"there is no time zone {name!r}") from None

    def _moment(self, text: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ScenarioError(f"{text!r} is no moment as of ISO 8601") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self._zone())
        return moment.astimezone(UTC).replace(tzinfo=None)


def _compiled(price: Mapping[str, Any]) -> list[Step]:
    model = price["model"]
    if model == "package":
        size = _fraction(price["package"]["size"])
        whole = Tier(
            from_quantity=Fraction(0), to_quantity=None, increment_quantity=size,
            per_quantity=size, price_amount=_fraction(price["package"]["price"]),
        )  # fmt: skip
        return compile_price(model, [whole])
    if model == "slots":
        tiers = [
            Tier(
                from_quantity=_fraction(slot["from"]),
                to_quantity=None if slot.get("to") is None else _fraction(slot["to"]),
                increment_quantity=None if slot.get("partial") else _fraction(slot["increment"]),
                per_quantity=_fraction(slot["per"]),
                price_amount=_fraction(slot["price"]),
            )
            for slot in price["slots"]
        ]
        return compile_price(model, tiers, price.get("overhang", "absorb"))
    begin, tiers = Fraction(0), []
    for tier in price["tiers"]:
        end = None if tier.get("to") is None else _fraction(tier["to"])
        tiers.append(
            Tier(
                from_quantity=begin,
                to_quantity=end,
                increment_quantity=None,
                per_quantity=Fraction(1),
                price_amount=_fraction(tier["price"]),
                flat_amount=_fraction(tier.get("flat") or 0),
            )
        )
        begin = end if end is not None else begin
    return compile_price(model, tiers)


def _periods(declared: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    """(day, from second, to second) of one declared period; one over midnight has two parts."""
    begin, end = _second(declared.get("from", "00:00")), _second(declared.get("to", "24:00"))
    for day in _days(declared.get("days", "mon-sun")):
        if begin < end:
            yield day, begin, end
        else:
            yield day, begin, DAY_SECONDS
            if end > 0:
                yield (day + 1) % 7, 0, end


def _rest(parts: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """What of the week the parts leave."""
    for day in range(7):
        at = 0
        for begin, end in sorted((begin, end) for each, begin, end in parts if each == day):
            if begin > at:
                yield day, at, begin
            at = max(at, end)
        if at < DAY_SECONDS:
            yield day, at, DAY_SECONDS


def _days(text: str) -> Iterator[int]:
    """The days of ``mon-fri``, ``sat,sun``, ``fri-mon`` or ``daily``."""
    if text in ("daily", "all", "*"):
        text = "mon-sun"
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first not in DAYS or (last and last not in DAYS):
            raise ScenarioError(f"{part!r} are no days of the week, such as mon-fri")
        begin = DAYS.index(first)
        end = DAYS.index(last) if last else begin
        for day in range(begin, end + 1 if end >= begin else end + 8):
            yield day % 7


def _second(text: str) -> int:
    try:
        parts = [int(part) for part in text.split(":")]
    except ValueError:
        raise ScenarioError(f"{text!r} is no time of day") from None
    span = timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2] if len(parts) > 2 else 0)
    return int(span.total_seconds())


def _number(value: object) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise ScenarioError(f"{value!r} is no number") from None


def _optional(value: object) -> Decimal | None:
    return None if value is None else _number(value)


def _amount_of(value: object) -> object:
    return value.get("amount") if isinstance(value, Mapping) else value


def _fraction(value: object) -> Fraction:
    return Fraction(_number(value))


def _shown(value: Decimal | None) -> str | None:
    """A number without superfluous zeros."""
    if value is None:
        return None
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _id_of(line: str, number: int) -> str:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError):
        return f"line {number}"


def read_lines(path: Path) -> list[str]:
    """The lines of a file of scenarios."""
    return path.read_text(encoding="utf-8").splitlines()


__all__ = ["ScenarioError", "Verdict", "read_lines", "run_scenarios"]
