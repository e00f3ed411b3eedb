"""What a rating scenario may say: the format of `tollhouse conformance`, read strictly.

What the rating would not understand is refused, so that no scenario passes by what it does not say.
`docs/rating-scenarios.md` tells what each field means.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_SECONDS = 86_400
# Calls that cross bands are split on as many days as the models lay out.
LONGEST_BANDED_SECONDS = 90 * DAY_SECONDS
YEARS = range(1970, 2200)
OTHERWISE = "otherwise"
TARIFF = "tariff"  # what orders, components and fees call the plan that all lines have
UNITS = {"voice": "second", "data": "octet"}

_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_WHOLE_DIGITS = 12
_MONTH = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
_TIME = re.compile(r"([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)


class ScenarioError(ValueError):
    """A scenario cannot be read; the message says where and what is allowed."""


def _decimal(value: object) -> Decimal:
    """Decimal text, or a whole number, which no reader of JSON makes inexact."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        shown = f"the bare number {value}" if isinstance(value, Decimal) else repr(value)
        raise ValueError(f'{shown} is no decimal text, such as "12.5"')
    return Decimal(value)


def _limited(decimals: int, *, is_signed: bool = False, is_positive: bool = False) -> Any:
    def check(value: Decimal) -> Decimal:
        if abs(value) >= 10**_WHOLE_DIGITS:
            raise ValueError(f"{value} has more than {_WHOLE_DIGITS} digits before the point")
        if value != round(value, decimals):
            raise ValueError(f"{value} has more than {decimals} digits after the point")
        if value < 0 and not is_signed:
            raise ValueError(f"{value} is below zero")
        if value == 0 and is_positive:
            raise ValueError(f"{value} is not above zero")
        return value

    return AfterValidator(check)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,9}", str(value), re.ASCII):
        raise ValueError(f"{value!r} is no whole number of at most 9 digits")
    return int(str(value))


def _time_of_day(text: str) -> int:
    """The second of the day."""
    match = _TIME.fullmatch(text)
    second = sum(int(part or 0) * by for part, by in zip(match.groups(), (3600, 60, 1), strict=True)
                 ) if match else DAY_SECONDS + 1  # fmt: skip
    if second > DAY_SECONDS:
        raise ValueError(f"{text!r} is no time of day from 00:00 to 24:00")
    return second


def _days(text: str) -> list[int]:
    """The days of ``mon-fri``, ``sat,sun`` or ``fri-mon``."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r} are no days of the week, such as mon-fri or sat,sun")
        begin = DAYS.index(first)
        end = DAYS.index(last) if dash else begin
        found += [day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)]
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"there is no time zone {name!r}") from None


Text = Annotated[str, Field(min_length=1, strict=True)]
Quantity = Annotated[Decimal, BeforeValidator(_decimal), _limited(6)]
Size = Annotated[Decimal, BeforeValidator(_decimal), _limited(6, is_positive=True)]
Signed = Annotated[Decimal, BeforeValidator(_decimal), _limited(6, is_signed=True)]
Expected = Annotated[Decimal, BeforeValidator(_decimal)]
Amount = Annotated[Decimal, BeforeValidator(_decimal), _limited(6)]
# A price by the unit is kept as a fraction, however fine it is.
UnitPrice = Annotated[Decimal, BeforeValidator(_decimal), _limited(12)]
Whole = Annotated[int, BeforeValidator(_whole)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Period(_Part):
    """When a band holds; one that does not end after it begins goes over midnight."""

    days: Annotated[list[int], BeforeValidator(_days), BeforeValidator(str)] = Field(
        default=list(range(7))
    )
    begin: Annotated[int, BeforeValidator(_time_of_day), BeforeValidator(str)] = Field(
        0, alias="from"
    )
    end: Annotated[int, BeforeValidator(_time_of_day), BeforeValidator(str)] = Field(
        DAY_SECONDS, alias="to"
    )

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """(day, from second, to second); one over midnight has two parts."""
        for day in self.days:
            if self.begin < self.end:
                yield day, self.begin, self.end
            else:
                yield day, self.begin, DAY_SECONDS
                if self.end > 0:
                    yield (day + 1) % 7, 0, self.end


class Slot(_Part):
    begin: Quantity = Field(alias="from")
    end: Quantity | None = Field(None, alias="to")
    increment: Size | None = None
    per: Size
    price: UnitPrice
    partial: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _is_rounded(self) -> Self:
        if self.increment is None and not self.partial:
            raise ValueError("a slot needs `increment`, or `partial`: true")
        return self


class PriceTier(_Part):
    end: Quantity | None = Field(None, alias="to")
    price: UnitPrice
    flat: Amount | None = None


class Package(_Part):
    size: Size
    price: Amount


class Rounding(_Part):
    at: Literal["record"] = "record"
    mode: Literal["up", "down", "half_up"] = "half_up"
    digits: Annotated[Whole, Field(ge=0)] = 6


class Maximum(_Part):
    amount: Amount
    strategy: Literal["free"] = "free"


class Minimum(_Part):
    amount: Amount


def _as_minimum(value: object) -> object:
    return value if value is None or isinstance(value, Mapping) else {"amount": value}


class Price(_Part):
    id: Text
    service: Text
    band: Text | None = None
    model: Literal["slots", "graduated", "volume", "package"]
    slots: list[Slot] | None = None
    tiers: list[PriceTier] | None = None
    package: Package | None = None
    overhang: Literal["absorb", "each"] | None = None
    connection_fee: Amount | None = None
    minimum: Annotated[Minimum, BeforeValidator(_as_minimum)] | None = None
    maximum: Maximum | None = None
    rounding: Rounding | None = None

    @model_validator(mode="after")
    def _has_what_its_model_needs(self) -> Self:
        needed = {"slots": "slots", "package": "package"}.get(self.model, "tiers")
        if not getattr(self, needed):
            raise ValueError(f"model {self.model} needs `{needed}`")
        for name in {"slots", "tiers", "package"} - {needed}:
            if getattr(self, name):
                raise ValueError(f"model {self.model} has no `{name}`")
        if self.overhang == "each" and self.model != "slots":
            raise ValueError(f"model {self.model} has no `overhang`")
        return self


class Allowance(_Part):
    id: Text
    size: Quantity
    unit: Literal["second", "octet", "event", "quantity", "money"]
    covers: Annotated[list[Text], Field(min_length=1)]
    priority: Whole = 1
    scope: Literal["line", "shared", "pooled"]


class _Charged(_Part):
    """What has a monthly fee."""

    fee: Amount | None = None
    first_month: Literal["prorated", "whole", "half_after_mid", "free"] = "prorated"
    last_month: Literal["prorated", "whole"] = "prorated"


class Tariff(_Charged):
    prices: Annotated[list[Price], Field(min_length=1)]
    allowances: list[Allowance] = []


class Component(_Part):
    product: Text
    fee_rule: Literal["included", "own", "replaced"] = "included"
    fee: Amount | None = None

    @model_validator(mode="after")
    def _has_a_fee_where_it_is_replaced(self) -> Self:
        if (self.fee_rule == "replaced") != (self.fee is not None):
            raise ValueError("`fee` is there where fee_rule is replaced, and nowhere else")
        return self


class Product(_Charged):
    id: Text
    type: Literal["plan", "addon", "bundle"]
    components: list[Component] = []


class Order(_Part):
    line: Text
    product: Text
    begin: Text = Field(alias="at")
    end: Text | None = None
    other_line: Text | None = Field(None, alias="with")


class Usage(_Part):
    id: Text
    line: Text
    service: Text
    started_at: Text
    quantity: Signed
    arrival: Whole | None = None


class Expectation(_Part):
    charges: dict[str, Expected] | None = None
    drawn: dict[str, dict[str, Expected]] | None = None
    fees: dict[str, dict[str, Expected]] | None = None
    total: Expected | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        by_name = (*(self.drawn or {}).values(), *(self.fees or {}).values())
        if not self.charges and self.total is None and not any(by_name):
            raise ValueError("nothing is expected: `charges`, `drawn`, `fees` or `total` is needed")
        return self


@dataclass
class Holding:
    """A product of a line from a moment to another, in UTC without a zone; None: always."""

    line: str
    product: str
    begin: datetime | None
    end: datetime | None = None
    bundle: Holding | None = None


class Scenario(_Part):
    """One line of a file of scenarios."""

    id: Text | None = None
    source: str = ""
    note: str = ""
    zone: Annotated[ZoneInfo, BeforeValidator(_zone), BeforeValidator(str)] = Field(
        ZoneInfo("UTC"), alias="timezone"
    )
    bands: dict[Text, list[Period]] = {}
    month: Annotated[str, Field(pattern=_MONTH)] | None = None
    tariff: Tariff
    products: list[Product] = []
    lines: Annotated[list[Text], Field(min_length=1)]
    orders: list[Order] = []
    usage: list[Usage] = []
    expected: Expectation

    def unit(self, service: str) -> str:
        """Seconds for voice and for what an allowance of seconds covers."""
        covered = {
            price_id
            for allowance in self.tariff.allowances
            if allowance.unit == "second"
            for price_id in allowance.covers
        }
        timed = {price.service for price in self.tariff.prices if price.id in covered}
        return "second" if service in timed else UNITS.get(service, "event")

    def moment(self, usage: Usage) -> datetime:
        """When it began, in UTC, without a zone."""
        return _in_utc(self._civil(usage.started_at, f"usage.{usage.id}.started_at"))

    def _civil(self, text: str, where: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = datetime.min  # noqa: DTZ901 - in no year that is allowed
        if moment.year not in YEARS:
            raise ScenarioError(
                f"{where}: {text!r} is no moment as of ISO 8601"
                f" in the years {YEARS.start} to {YEARS.stop - 1}"
            )
        if moment.tzinfo is None:
            return moment.replace(tzinfo=self.zone)
        return moment.astimezone(self.zone)

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises:
            ScenarioError: names the first of it.
        """
        prices, allowances = self.tariff.prices, self.tariff.allowances
        _refuse_twice("tariff.prices", (price.id for price in prices))
        _refuse_twice("tariff.allowances", (allowance.id for allowance in allowances))
        _refuse_twice("lines", self.lines)
        _refuse_twice("usage", (usage.id for usage in self.usage))
        self._check_fees()
        self._check_bands()
        price_ids = {price.id for price in prices}
        for allowance in allowances:
            where = f"tariff.allowances.{allowance.id}.covers"
            _refuse_twice(where, allowance.covers)
            for name in allowance.covers:
                if name not in price_ids:
                    raise ScenarioError(f"{where}: there is no price {name!r}")
        self._check_usage()
        self._check_expected()

    def _check_bands(self) -> None:
        for band in self.bands:
            if band.startswith(f"{OTHERWISE} "):
                raise ScenarioError(f"bands.{band}: no name may begin with {OTHERWISE!r}")
        by_service: dict[str, list[Price]] = {}
        for index, price in enumerate(self.tariff.prices):
            if price.band is not None and price.band not in self.bands:
                raise ScenarioError(
                    f"tariff.prices[{index}].band: there is no band {price.band!r} in `bands`"
                )
            by_service.setdefault(price.service, []).append(price)
        for band in self.bands:
            self._refuse_overlap([band], f"bands.{band}: its periods")
        for service, prices in by_service.items():
            named = [price.band for price in prices if price.band is not None]
            if len(set(named)) < len(named) or len(prices) - len(named) > 1:
                raise ScenarioError(
                    f"tariff.prices: two prices of service {service!r} hold at the same time"
                )
            self._refuse_overlap(named, f"bands: {', '.join(named)} of service {service!r}")

    def _refuse_overlap(self, bands: Iterable[str], what: str) -> None:
        parts = sorted(
            part for band in bands for period in self.bands[band] for part in period.parts()
        )
        for before, after in pairwise(parts):
            if before[0] == after[0] and after[1] < before[2]:
                clock = f"{after[1] // 3600:02}:{after[1] // 60 % 60:02}"
                raise ScenarioError(f"{what} overlap on {DAYS[after[0]]} at {clock}")

    def _check_usage(self) -> None:
        services = {price.service: False for price in self.tariff.prices}
        services |= {price.service: True for price in self.tariff.prices if price.band is not None}
        months: dict[tuple[int, int], str] = {}
        for usage in self.usage:
            where = f"usage.{usage.id}"
            if usage.service not in services:
                raise ScenarioError(f"{where}.service: no price is of {usage.service!r}")
            if usage.line not in self.lines:
                raise ScenarioError(f"{where}.line: there is no line {usage.line!r} in `lines`")
            is_split = services[usage.service] and self.unit(usage.service) == "second"
            if is_split and abs(usage.quantity) > LONGEST_BANDED_SECONDS:
                raise ScenarioError(
                    f"{where}.quantity: what is priced in bands lasts at most"
                    f" {LONGEST_BANDED_SECONDS} seconds"
                )
            civil = self._civil(usage.started_at, f"{where}.started_at")
            months.setdefault((civil.year, civil.month), usage.id)
        if self.month is not None:
            self._check_times()
            for (year, month), name in months.items():
                if f"{year}-{month:02}" != self.month:
                    raise ScenarioError(
                        f"usage.{name}.started_at: not in the month {self.month} of {self.zone.key}"
                    )
        if len(months) > 1:
            first, other, *_ = months.values()
            raise ScenarioError(
                f"usage.{other}.started_at: not in the month of {first}; all usage lies in one"
                f" calendar month of {self.zone.key}"
            )

    def _check_fees(self) -> None:
        """Products and orders: only where a month is named, and what they name is there."""
        if self.month is None:
            said = [
                name for name, value in (
                    ("tariff.fee", self.tariff.fee), ("products", self.products),
                    ("orders", self.orders), ("expected.fees", self.expected.fees),
                ) if value
            ]  # fmt: skip
            if said:
                raise ScenarioError(f"{said[0]}: fees are of a month; say which in `month`")
            if not self.usage:
                raise ScenarioError("usage: at least one, or a `month` for its fees")
            return
        if int(self.month[:4]) not in YEARS:
            raise ScenarioError(f"month: not in the years {YEARS.start} to {YEARS.stop - 1}")
        for allowance in self.tariff.allowances:
            if allowance.scope == "pooled":
                raise ScenarioError(
                    f"tariff.allowances.{allowance.id}.scope: nothing is pooled where `month` is"
                    " said: how many hold it may change within the month"
                )
        _refuse_twice("products", [TARIFF, *(product.id for product in self.products)])
        types = {TARIFF: "plan"} | {product.id: product.type for product in self.products}
        for product in self.products:
            self._check_components(product, types)
        for line, fees in (self.expected.fees or {}).items():
            if line not in self.lines:
                raise ScenarioError(f"expected.fees: there is no line {line!r} in `lines`")
            for name in fees:
                if name not in types:
                    raise ScenarioError(f"expected.fees.{line}: there is no product {name!r}")
        self.holdings()

    @staticmethod
    def _check_components(product: Product, types: Mapping[str, str]) -> None:
        where = f"products.{product.id}.components"
        names = [component.product for component in product.components]
        _refuse_twice(where, names)
        for name in names:
            if types.get(name) not in ("plan", "addon"):
                raise ScenarioError(f"{where}: there is no plan and no add-on {name!r}")
        plans = [name for name in names if types[name] == "plan"]
        if (product.type == "bundle") != bool(names):
            raise ScenarioError(f"{where}: a bundle has them, and nothing else has")
        if names and (len(names) < 2 or len(plans) not in (1, 2)):
            raise ScenarioError(f"{where}: at least two, one or two of them plans")

    def holdings(self) -> list[Holding]:
        """What the lines hold: the tariff, and from then on what they order.

        Raises:
            ScenarioError: an order that cannot be, as a plan beside a bundle that has one.
        """
        known = _Holdings(self.lines, self.products)
        orders = [
            (*self._span(order, f"orders[{number}]"), number, order)
            for number, order in enumerate(self.orders)
        ]
        for begin, end, number, order in sorted(orders, key=lambda each: each[0]):
            known.take(order, f"orders[{number}]", begin, end)
        return known.found

    def _span(self, order: Order, where: str) -> tuple[datetime, datetime | None]:
        begin = _in_utc(self._civil(order.begin, f"{where}.at"))
        if order.end is None:
            return begin, None
        end = _in_utc(self._civil(order.end, f"{where}.end"))
        if end <= begin:
            raise ScenarioError(f"{where}.end: not after `at`")
        return begin, end

    def _check_times(self) -> None:
        """Refuse a record during which its line takes another plan: it would be two."""
        changes = [
            (one.line, one.begin) for one in self.holdings()
            if one.begin is not None and self.product_type(one.product) == "plan"
        ]  # fmt: skip
        for usage in self.usage:
            if self.unit(usage.service) != "second":
                continue
            begin = self.moment(usage)
            last = begin + timedelta(microseconds=min(int(abs(usage.quantity).scaleb(6)), 10**15))
            if any(line == usage.line and begin < at < last for line, at in changes):
                raise ScenarioError(
                    f"usage.{usage.id}: line {usage.line!r} takes another plan during it"
                )

    def product_type(self, name: str) -> str:
        """Whether a product is a plan, an add-on or a bundle; the tariff is a plan."""
        return next((one.type for one in self.products if one.id == name), "plan")

    def _check_expected(self) -> None:
        usages = {usage.id for usage in self.usage}
        allowances = {allowance.id for allowance in self.tariff.allowances}
        for key in ("charges", "drawn"):
            for name in getattr(self.expected, key) or {}:
                if name not in usages:
                    raise ScenarioError(f"expected.{key}: there is no usage {name!r}")
        for name, drawn in (self.expected.drawn or {}).items():
            for allowance in drawn:
                if allowance not in allowances:
                    raise ScenarioError(f"expected.drawn.{name}: there is no allowance"
                                        f" {allowance!r}")  # fmt: skip


class _Holdings:
    """What lines hold, order by order."""

    def __init__(self, lines: Sequence[str], products: Sequence[Product]) -> None:
        self._products = {TARIFF: Product(id=TARIFF, type="plan")}
        self._products |= {product.id: product for product in products}
        self._plans = {line: Holding(line, TARIFF, None) for line in lines}
        self._bundles: dict[str, Holding] = {}  # by each line that is in it
        self.found = list(self._plans.values())

    def take(self, order: Order, where: str, begin: datetime, end: datetime | None) -> None:
        """Follow one order, later than those before."""
        product = self._products.get(order.product)
        if product is None:
            raise ScenarioError(f"{where}.product: there is no product {order.product!r}")
        lines = [line for line in (order.line, order.other_line) if line is not None]
        _refuse_twice(where, lines)
        for line in lines:
            if line not in self._plans:
                raise ScenarioError(f"{where}: there is no line {line!r} in `lines`")
        plans, addons = self._parts(product)
        if len(lines) != max(1, len(plans)):
            raise ScenarioError(
                f"{where}.with: names the other line of a bundle of two plans, and no other"
            )
        held = Holding(order.line, order.product, begin, end)
        if product.type == "addon":
            self.found.append(held)
            return
        if product.type == "plan" and end is not None:
            raise ScenarioError(f"{where}.end: a plan ends when another begins")
        for line in lines:
            self._make_room(line, lines if product.type == "bundle" else (), where, begin)
        self.found.append(held)
        if product.type == "plan":
            self._plans[order.line] = held
            return
        for line, name in zip(lines, plans, strict=True):
            self._plans[line] = Holding(line, name, begin, None, held)
            self._bundles[line] = held
            self.found.append(self._plans[line])
        self.found += [Holding(order.line, name, begin, end, held) for name in addons]

    def _parts(self, product: Product) -> tuple[list[str], list[str]]:
        """The plans and the add-ons that a bundle groups."""
        names = [component.product for component in product.components]
        plans = [name for name in names if self._products[name].type == "plan"]
        return plans, [name for name in names if name not in plans]

    def _make_room(self, line: str, lines: Sequence[str], where: str, begin: datetime) -> None:
        """End the plan of a line, and the bundle it is in, which others of `lines` may hold."""
        bundle = self._bundles.pop(line, None)
        if bundle is not None and (bundle.end is None or bundle.end > begin):
            if bundle.end is not None or bundle.line not in lines:
                raise ScenarioError(f"{where}.at: line {line!r} is in a bundle then")
            for one in self.found:
                is_addon = self._products[one.product].type == "addon"
                if one is bundle or (one.bundle is bundle and is_addon):
                    one.end = begin
        if self._plans[line].begin == begin:
            raise ScenarioError(f"{where}.at: line {line!r} takes another plan then")
        self._plans[line].end = begin


def read_scenario(line: str) -> tuple[Scenario, dict[str, Any]]:
    """A line as a scenario, and what it expects as it stands there.

    Raises:
        ScenarioError: it is not in the format; the message names every field that is not.
    """
    try:
        document = json.loads(
            line, parse_float=Decimal, parse_constant=Decimal, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise ScenarioError(f"no JSON at character {error.pos}") from None
    except ScenarioError:
        raise
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ScenarioError(f"no JSON that can be read: {error}") from None
    if not isinstance(document, dict):
        raise ScenarioError("no JSON object")
    if re.search(r"[\ud800-\udfff]", json.dumps(document, ensure_ascii=False, default=str)):
        raise ScenarioError("half of a surrogate pair is no character")
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise ScenarioError("; ".join(_told(error.errors()))) from None
    scenario.check()
    return scenario, document["expected"]


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice("JSON object", (key for key, _ in pairs))
    return dict(pairs)


def _refuse_twice(where: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ScenarioError(f"{where}: {name!r} is there twice")


def _told(errors: Iterable[Any]) -> Iterator[str]:
    for error in errors:
        where = ""
        for part in error["loc"]:
            where += f"[{part}]" if isinstance(part, int) else f".{part}"
        match error["type"]:
            case "extra_forbidden":
                what = "the format has no such key"
            case "missing":
                what = "is missing"
            case "literal_error":
                what = f"{error['input']!r} is not allowed, only {error['ctx']['expected']}"
            case _:
                what = error["msg"].removeprefix("Value error, ")
        yield f"{where.removeprefix('.') or 'scenario'}: {what}"


__all__ = [
    "DAYS", "DAY_SECONDS", "OTHERWISE", "TARIFF", "Holding", "Price", "Product", "Rounding",
    "Scenario", "ScenarioError", "read_scenario",
]  # fmt: skip
