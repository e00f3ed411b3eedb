"""Rating scenarios 批价场景: small tariffs and usages with known answers.

A file holds one scenario a line (JSON). All of them are laid side by side, as tariffs and lines of
their own, in an empty warehouse, and rated by one run of the dbt models that rate a month: what
passes here is what bills. Those that say a month, for its fees, are rated by a run for each time
zone: where a month begins is the same for all lines of a carrier.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from operational.catalogue.price_steps import (
    PriceStepError,
    Step,
    Tier,
    common_denominator,
    compile_price,
    step_rows,
)
from tollhouse.scenario import (
    DAY_SECONDS,
    DAYS,
    OTHERWISE,
    TARIFF,
    Price,
    Product,
    Rounding,
    Scenario,
    ScenarioError,
    read_scenario,
)
from tollhouse.settings import Settings
from tollhouse.warehouse import TransformError, open_warehouse, transform

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

# What charges monthly fees besides, where scenarios have such.
FEE_MODELS = (
    "ods__bundle_component", "ods__subscription_status", "billing__fee_holding",
    "billing__recurring_charge",
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
        "role": _TEXT, "bundle_instance_id": _TEXT, "valid_from": _MOMENT, "valid_to": _MOMENT,
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
    "catalogue_bundle_component": {
        "plan_version_id": _TEXT, "offering_id": _TEXT, "fee_rule": _TEXT, "fee_amount": _AMOUNT,
    },
    # Nobody is suspended.
    "crm_subscription_status": {
        "subscription_status_id": _WHOLE, "subscription_id": _TEXT, "status": _TEXT,
        "valid_from": _MOMENT,
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


# What the engine says of a figure that outgrows its column.
_TOO_LARGE = re.compile(r"out of range|conversion error|could not cast|overflow", re.IGNORECASE)

# All usage of a scenario lies in one cycle; one that is long enough serves all without fees.
_CYCLE = {"cycle_id": "scenarios", "starts_at": _ALWAYS, "ends_at": _NEVER, "state": "open"}


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
    read: Scenario
    expected: dict[str, Any]  # as in the file
    rows: dict[str, list[Row]]
    usage_names: dict[str, str]  # id in the warehouse → id in the scenario
    product_names: dict[str, str]  # of offerings, likewise

    @property
    def zone(self) -> str | None:
        """The time zone of its month, if its fees are charged."""
        return self.read.zone.key if self.read.month else None


@dataclass
class _Rated:
    """What a run came to."""

    charges: dict[str, Decimal] = field(default_factory=dict)  # by usage
    drawn: dict[str, dict[str, Decimal]] = field(default_factory=dict)  # by usage and allowance
    fees: dict[str, dict[str, Decimal]] = field(default_factory=dict)  # by line and offering


def run_scenarios(settings: Settings, lines: Iterable[str], *, runs: int = 1) -> list[Verdict]:
    """Rate the scenarios and compare; verdicts in the order of the lines.

    The warehouse they are rated in is an embedded one below the home, made anew whatever the
    profile; the home's own is not touched. What cannot be read or rated fails alone.

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
    by_zone: dict[str | None, list[_Scenario]] = {}
    for scenario in scenarios:
        if isinstance(scenario, _Scenario):
            by_zone.setdefault(scenario.zone, []).append(scenario)
    judged: dict[int, Verdict] = {}
    for laid in by_zone.values():
        judged |= _judged(settings, laid, runs)
    return [
        judged[scenario.number] if isinstance(scenario, _Scenario) else scenario
        for scenario in scenarios
    ]


def _judged(
    settings: Settings, scenarios: Sequence[_Scenario], runs: int
) -> Iterator[tuple[int, Verdict]]:
    """Verdicts by line; where a figure outgrows its column, the halves are rated by themselves."""
    try:
        rated = _rate(settings, scenarios, runs)
    except TransformError as error:
        if not _TOO_LARGE.search(str(error)):
            raise
        if len(scenarios) > 1:
            middle = len(scenarios) // 2
            yield from _judged(settings, scenarios[:middle], runs)
            yield from _judged(settings, scenarios[middle:], runs)
            return
        (scenario,) = scenarios
        problem = (
            f"line {scenario.number}: usage × tariff: comes to a figure that cannot be kept; a"
            " charge has at most 12 digits before the point"
        )
        yield (
            scenario.number,
            Verdict(scenario.scenario_id, False, scenario.expected, problem=problem),
        )
        return
    for scenario in scenarios:
        yield scenario.number, _judge(scenario, rated)


def _rate(settings: Settings, scenarios: Sequence[_Scenario], runs: int) -> _Rated:
    """Rate scenarios, which are all of one time zone or all without a month."""
    scratch, zone = settings.scratch("conformance"), scenarios[0].zone
    if zone is not None:
        scratch = scratch.model_copy(update={"timezone": zone})
    shutil.rmtree(scratch.warehouse_file.parent, ignore_errors=True)
    with open_warehouse(scratch, "lay scenarios") as warehouse:
        for table, columns in _RAW.items():
            rows = [row for scenario in scenarios for row in scenario.rows[table]]
            rows += _cycles(scenarios) if table == "billing_billing_cycle" else []
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
        transform(scratch, [*MODELS, *(FEE_MODELS if zone else ())], command="run")
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
        fees = [] if zone is None else warehouse.rows(
            "select fee.subscription_id, fee.offering_id, fee.cycle_id, sum(fee.amount)"
            " from billing.recurring_charge as fee group by all"
        )  # fmt: skip
    rated = _Rated({usage_id: Decimal(amount) for usage_id, amount in amounts})
    for usage_id, allowance_id, micro in drawn:
        rated.drawn.setdefault(usage_id, {})[allowance_id] = Decimal(micro).scaleb(-6)
    for usage_id, allowance_id, amount in paid:
        rated.drawn.setdefault(usage_id, {})[allowance_id] = Decimal(amount)
        rated.charges[usage_id] -= Decimal(amount)
    months = {f"{scenario.number}": scenario.read.month for scenario in scenarios}
    for line, offering_id, month, amount in fees:
        if months[line.partition("/")[0]] == month:
            rated.fees.setdefault(line, {})[offering_id] = Decimal(amount)
    return rated


def _cycles(scenarios: Sequence[_Scenario]) -> list[Row]:
    """The months of scenarios of one time zone, or a cycle for all that have none."""
    months = {scenario.read.month: scenario for scenario in scenarios if scenario.read.month}
    cycles = []
    for month, scenario in months.items():
        begin = datetime.fromisoformat(f"{month}-01").replace(tzinfo=scenario.read.zone)
        end = (begin + timedelta(days=31)).replace(day=1)
        starts_at, ends_at = (at.astimezone(UTC).replace(tzinfo=None) for at in (begin, end))
        cycles.append(
            {"cycle_id": month, "starts_at": starts_at, "ends_at": ends_at, "state": "open"}
        )
    return cycles or [_CYCLE]


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


def _judge(scenario: _Scenario, outcome: _Rated) -> Verdict:
    rated = {
        name: outcome.charges[usage_id]
        for usage_id, name in scenario.usage_names.items()
        if usage_id in outcome.charges
    }
    drawn = {
        name: {
            allowance_id.partition("/")[2]: quantity
            for allowance_id, quantity in outcome.drawn[usage_id].items()
        }
        for usage_id, name in scenario.usage_names.items()
        if usage_id in outcome.drawn
    }
    fees = {
        line: {
            scenario.product_names[offering_id]: amount
            for offering_id, amount in outcome.fees.get(f"{scenario.number}/{line}", {}).items()
            if offering_id in scenario.product_names
        }
        for line in scenario.read.lines
    }
    wanted, actual, is_passed = scenario.read.expected, dict[str, Any](), True
    if wanted.charges is not None:
        found = {name: rated.get(name) for name in wanted.charges}
        actual["charges"] = {name: _shown(value) for name, value in found.items()}
        is_passed &= found == wanted.charges
    if wanted.drawn is not None:
        actual["drawn"] = {
            name: {allowance: _shown(value) for allowance, value in by_allowance.items()}
            for name, by_allowance in drawn.items()
        }
        is_passed &= all(
            drawn.get(name, {}).get(allowance, Decimal(0)) == value
            for name, by_allowance in wanted.drawn.items()
            for allowance, value in by_allowance.items()
        )
    if wanted.fees is not None:
        actual["fees"] = {
            line: {
                name: _shown(fees[line].get(name, Decimal(0))) for name in by_product | fees[line]
            }
            for line, by_product in wanted.fees.items()
        }
        is_passed &= all(
            fees[line].get(name, Decimal(0)) == value
            for line, by_product in wanted.fees.items()
            for name, value in by_product.items()
        )
    if wanted.total is not None:
        of_fees = (amount for by_product in fees.values() for amount in by_product.values())
        total = sum((*rated.values(), *of_fees), Decimal(0))
        actual["total"] = _shown(total)
        is_passed &= total == wanted.total
    missing = [name for name in scenario.usage_names.values() if name not in rated]
    problem = None
    if missing:
        is_passed = False
        problem = f"not rated, since no price holds for it: {', '.join(missing)}"
    return Verdict(scenario.scenario_id, is_passed, scenario.expected, actual, problem)


def _read(number: int, line: str) -> _Scenario:
    """A scenario as rows of the tables that the models read.

    Raises:
        ScenarioError: it lacks something or says something that has no meaning.
    """
    try:
        scenario, expected = read_scenario(line)
        return _Laying(number, scenario).laid(expected)
    except (ScenarioError, PriceStepError) as error:
        raise ScenarioError(f"line {number}: {error}") from error


class _Laying:
    """Lays one scenario into rows; every id begins with the scenario's number."""

    def __init__(self, number: int, scenario: Scenario) -> None:
        self._prefix = f"{number}/"
        self._number = number
        self._scenario = scenario
        self._prices = scenario.tariff.prices
        self._rows: dict[str, list[Row]] = {table: [] for table in (*_RAW, "classified_usage")}
        self._bands = {price.id: price.band for price in self._prices}
        # Offerings are called by number: names of products may be those of others.
        self._offerings = {TARIFF: self._id("plan")} | {
            product.id: self._id(f"product {place}")
            for place, product in enumerate(scenario.products)
        }

    def laid(self, expected: dict[str, Any]) -> _Scenario:
        self._lay_calendar()
        self._lay_tariff()
        self._lay_lines()
        names = self._lay_usage()
        name = self._scenario.id or f"line {self._number}"
        products = {offering_id: product for product, offering_id in self._offerings.items()}
        return _Scenario(self._number, name, self._scenario, expected, self._rows, names, products)

    def _id(self, name: object) -> str:
        return f"{self._prefix}{name}"

    def _add(self, table: str, **row: Any) -> None:
        self._rows[table].append(row)

    def _lay_calendar(self) -> None:
        """Bands as declared; of a service priced in bands, the price without one has the rest."""
        periods = {
            band: [part for period in declared for part in period.parts()]
            for band, declared in self._scenario.bands.items()
        }
        by_service: dict[str, list[Price]] = {}
        for price in self._prices:
            by_service.setdefault(price.service, []).append(price)
        for service, prices in by_service.items():
            named = [price.band for price in prices if price.band is not None]
            plain = [price for price in prices if price.band is None]
            if named and plain:
                band = f"{OTHERWISE} {service}"
                self._bands[plain[0].id] = band
                periods[band] = list(_rest([part for name in named for part in periods[name]]))
        for band, parts in periods.items():
            for day, begin, end in parts:
                self._add(
                    "catalogue_calendar_period",
                    calendar_id=self._id("calendar"), band=band, day_type=DAYS[day],
                    from_second=begin, to_second=end,
                )  # fmt: skip

    def _lay_tariff(self) -> None:
        steps = {price.id: _compiled(price) for price in self._prices}
        denominator = common_denominator(steps.values())
        tariff = self._scenario.tariff
        shared = Product(id="shared", type="addon")
        plans = [self._id("plan")]
        for offering_id, product in (
            (self._id("plan"), tariff), (self._id("shared"), shared),
            *((self._offerings[product.id], product) for product in self._scenario.products),
        ):  # fmt: skip
            self._add(
                "catalogue_price_plan_version",
                plan_version_id=offering_id, offering_id=offering_id, version_number=1,
                valid_from=_ALWAYS, valid_to=None, monthly_fee_amount=product.fee or Decimal(0),
                calendar_id=self._id("calendar"), cost_denominator=denominator,
                first_month_rule=product.first_month, last_month_rule=product.last_month,
                suspension_fee_amount=None, minimum_consumption_amount=None,
                late_usage_policy="next_bill", currency_code="CNY",
            )  # fmt: skip
            if isinstance(product, Product):
                plans += [offering_id] if product.type == "plan" else []
                self._lay_components(offering_id, product)
        for service in {price.service for price in self._prices}:
            self._add(
                "catalogue_charge_class",
                charge_class=self._id(service), service=service,
                unit=self._scenario.unit(service), bill_item_code=service,
            )  # fmt: skip
        for plan, price in ((plan, price) for plan in plans for price in self._prices):
            rounding = price.rounding or Rounding()
            # Of every plan its own: the running totals of a cycle are.
            usage_price_id = f"{plan}/{price.id}"
            self._add(
                "catalogue_usage_price",
                usage_price_id=usage_price_id, plan_version_id=plan,
                charge_class=self._id(price.service), band=self._bands[price.id],
                model=price.model,
                connection_fee_amount=price.connection_fee or Decimal(0),
                minimum_amount=price.minimum and price.minimum.amount,
                maximum_amount=price.maximum and price.maximum.amount,
                repeat_quantity=None,
                rounding_mode=rounding.mode, rounding_digits=min(6, rounding.digits),
                bill_item_code=price.service,
            )  # fmt: skip
            for row in step_rows(steps[price.id], denominator):
                self._add(
                    "catalogue_price_step",
                    usage_price_id=usage_price_id,
                    **vars(row),
                )
        services = {price.id: price.service for price in self._prices}
        for allowance in self._scenario.tariff.allowances:
            plan = "shared" if allowance.scope == "shared" else "plan"
            self._add(
                "catalogue_allowance",
                allowance_id=self._id(allowance.id), plan_version_id=self._id(plan),
                unit=allowance.unit, size_quantity=allowance.size,
                priority=allowance.priority, scope=allowance.scope,
                quantity_basis="raw", rounding_increment=Decimal(1), rollover_months=0,
            )  # fmt: skip
            for price_id in allowance.covers:
                self._add(
                    "catalogue_allowance_coverage",
                    allowance_id=self._id(allowance.id),
                    charge_class=self._id(services[price_id]), band=self._bands[price_id],
                )  # fmt: skip

    def _lay_components(self, bundle: str, product: Product) -> None:
        for component in product.components:
            self._add(
                "catalogue_bundle_component",
                plan_version_id=bundle, offering_id=self._offerings[component.product],
                fee_rule=component.fee_rule, fee_amount=component.fee,
            )  # fmt: skip

    def _lay_lines(self) -> None:
        """Every line holds the plan, and what it orders; what all share is held by the first."""
        self._add(
            "crm_account",
            account_id=self._id("account"), customer_id=self._id("customer"),
            time_zone=self._scenario.zone.key, province_code="00",
        )  # fmt: skip
        for line in self._scenario.lines:
            self._add(
                "crm_subscription",
                subscription_id=self._id(line), account_id=self._id("account"),
                msisdn=self._id(line), valid_from=_ALWAYS, valid_to=None, province_code="00",
            )  # fmt: skip
        holdings = self._scenario.holdings()
        names = {id(held): self._id(f"holding {place}") for place, held in enumerate(holdings)}
        for held in holdings:
            self._add(
                "crm_product_instance",
                product_instance_id=names[id(held)], subscription_id=self._id(held.line),
                offering_id=self._offerings[held.product],
                role=self._scenario.product_type(held.product),
                bundle_instance_id=names[id(held.bundle)] if held.bundle else None,
                valid_from=held.begin or _ALWAYS, valid_to=held.end,
            )  # fmt: skip
        self._add(
            "crm_product_instance",
            product_instance_id=self._id("shared"),
            subscription_id=self._id(self._scenario.lines[0]), offering_id=self._id("shared"),
            role="addon", valid_from=_ALWAYS, valid_to=None,
        )  # fmt: skip

    def _lay_usage(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for rank, usage in enumerate(sorted(self._scenario.usage, key=lambda each: each.id)):
            # Ids that sort as the scenario's do: rating goes by (moment, id).
            usage_id = f"{self._number:08x}-0000-0000-0000-{rank:012x}"
            names[usage_id] = usage.id
            self._add(
                "classified_usage",
                usage_id=usage_id, service=usage.service, direction="mo",
                served_msisdn=self._id(usage.line), is_abroad=False,
                visited_province_code=None, charge_class=self._id(usage.service),
                unit=self._scenario.unit(usage.service),
                quantity_micro=int(usage.quantity.scaleb(6)),
                started_at=self._scenario.moment(usage),
            )  # fmt: skip
        return names


def _compiled(price: Price) -> list[Step]:
    if price.package is not None:
        size = Fraction(price.package.size)
        whole = Tier(
            from_quantity=Fraction(0), to_quantity=None, increment_quantity=size,
            per_quantity=size, price_amount=Fraction(price.package.price),
        )  # fmt: skip
        return compile_price(price.model, [whole])
    if price.slots:
        tiers = [
            Tier(
                from_quantity=Fraction(slot.begin),
                to_quantity=None if slot.end is None else Fraction(slot.end),
                increment_quantity=(
                    None if slot.partial or slot.increment is None else Fraction(slot.increment)
                ),
                per_quantity=Fraction(slot.per),
                price_amount=Fraction(slot.price),
            )
            for slot in price.slots
        ]
        return compile_price(price.model, tiers, price.overhang or "absorb")
    begin, tiers = Fraction(0), []
    for tier in price.tiers or ():
        end = None if tier.end is None else Fraction(tier.end)
        tiers.append(
            Tier(
                from_quantity=begin,
                to_quantity=end,
                increment_quantity=None,
                per_quantity=Fraction(1),
                price_amount=Fraction(tier.price),
                flat_amount=Fraction(tier.flat or 0),
            )
        )
        begin = end if end is not None else begin
    return compile_price(price.model, tiers)


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


def _shown(value: Decimal | None) -> str | None:
    """A number without superfluous zeros."""
    if value is None:
        return None
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _id_of(line: str, number: int) -> str:
    try:
        name = str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"line {number}"
    return name.encode("utf-8", "backslashreplace").decode()


def read_lines(path: Path) -> list[str]:
    """The lines of a file of scenarios, without the mark some editors put at its beginning."""
    # Not splitlines(): other separators, such as U+2028, may stand inside JSON text.
    return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")


__all__ = ["ScenarioError", "Verdict", "read_lines", "run_scenarios"]
