"""The format in which a catalogue is written: charge classes, calendars, price lists, offerings.

Quantities are numbers in seconds, octets and events, or text with a unit (``100 min``, ``500 MB``;
1 KB = 1024 octets). Amounts are text or whole numbers: a binary fraction is not exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from operational.catalogue.findings import NOWHERE, Place
from operational.ratecards import Row, Validity

Unit = Literal["second", "octet", "event"]
Service = Literal["voice", "sms", "mms", "data", "vas"]
DayType = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
Occasion = Literal["join", "change", "leave", "sim_replacement"]

DAY_TYPES: tuple[DayType, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
DAY_SECONDS = 86_400
MEGABYTE = 1024 * 1024

# What bills are itemised by; the names are in messages.yaml.
BILL_ITEMS = (
    "rent", "voice", "sms", "data", "international", "roaming", "vas", "collection", "one_off",
    "penalty",
)  # fmt: skip

LAST_VERSION = 999_999_999  # what a version is numbered at most
_LARGEST = 10**12  # amounts have at most twelve digits before the point
_LARGEST_QUANTITY = 10**18
_MOST_DIGITS = 40
_FIRST_DAY = date(1970, 1, 1)  # tariffs are not older, and a moment is a year of our era
_UNITS: dict[str, tuple[str, int]] = {
    "s": ("second", 1), "min": ("second", 60), "h": ("second", 3600),
    "B": ("octet", 1), "KB": ("octet", 1024), "MB": ("octet", MEGABYTE),
    "GB": ("octet", MEGABYTE * 1024), "TB": ("octet", MEGABYTE * MEGABYTE),
    "event": ("event", 1), "events": ("event", 1), "yuan": ("money", 1),
}  # fmt: skip
_QUANTITY = re.compile(r"^(-?[0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)$")
_TIME = re.compile(r"^([01][0-9]|2[0-4]):([0-5][0-9])(?::([0-5][0-9]))?$")


@dataclass(frozen=True)
class Measure:
    """A quantity in base units; `unit` is what it was written in, None for a plain number."""

    value: Decimal
    unit: str | None = None


def free_number(taken: Collection[int]) -> int:
    """A version number that is not taken: above those that are, while there is one."""
    following = max(taken, default=0) + 1
    if following <= LAST_VERSION:
        return following
    return min(set(range(1, len(taken) + 2)).difference(taken))


def _refusal(code: str, message: str, values: dict[str, Any]) -> PydanticCustomError:
    """A refused field; the message people read is ``finding.field_<code>``."""
    return PydanticCustomError(code, message, values)


def _decimal(value: Any, text: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        if isinstance(value, float):
            raise _refusal("not_exact", "write {value} in quotes", {"value": value})
        raise _refusal("no_number", "{value} is not a number", {"value": str(value)})
    try:
        number = Decimal(text)
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise _refusal("no_number", "{value} is not a number", {"value": str(value)})
    return number


def _fit(number: Decimal, digits: int, largest: int, *, positive: bool) -> Decimal:
    # With a large exponent the digits written out would fill the memory.
    shown = {"value": f"{number:f}" if abs(number.adjusted()) < _MOST_DIGITS else str(number)}
    if number < 0 or (positive and number == 0):
        code = "not_positive" if positive else "negative"
        raise _refusal(code, "{value} is too small", shown)
    if number >= largest:
        raise _refusal("too_large", "{value} is too large", shown)
    if number != round(number, digits):
        raise _refusal("too_fine", "{value} has too many decimals", {
            **shown, "digits": digits,
        })  # fmt: skip
    return number


def _amount_of(digits: int, *, positive: bool = False) -> Callable[[Any], Decimal]:
    def parse(value: Any) -> Decimal:
        number = _decimal(value, str(value).strip())
        return _fit(number, digits, _LARGEST, positive=positive)

    return parse


def _quantity_of(*, positive: bool) -> Callable[[Any], Measure]:
    def parse(value: Any) -> Measure:
        if isinstance(value, Measure):
            return value
        found = _QUANTITY.match(str(value).strip())
        if isinstance(value, str) and (found is None or (found[2] and found[2] not in _UNITS)):
            raise _refusal(
                "no_quantity", "{value} is no quantity",
                {"value": value, "units": ", ".join(_UNITS)},
            )  # fmt: skip
        number = _decimal(value, found[1] if found else str(value))
        unit, factor = _UNITS.get(found[2] if found else "", (None, 1))
        return Measure(_fit(number * factor, 6, _LARGEST_QUANTITY, positive=positive), unit)

    return parse


def _parse_time(value: Any) -> int:
    if isinstance(value, str) and (found := _TIME.match(value)):
        seconds = int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3] or 0)
        if seconds <= DAY_SECONDS:
            return seconds
    raise _refusal("no_time", "{value} is no time of day", {"value": str(value)})


def _parse_days(value: Any) -> tuple[str, ...]:
    days: list[str] = []
    for part in value.split(",") if isinstance(value, str) else value or ():
        first, _, last = str(part).strip().partition("-")
        if first == "all" and not last:
            days += DAY_TYPES
        elif first in DAY_TYPES and (last or first) in DAY_TYPES:
            begin, end = DAY_TYPES.index(first), DAY_TYPES.index(last or first)
            if begin > end or (last == "holiday" and first != "holiday"):
                raise _refusal("no_days", "{value} are no days", {"value": str(part)})
            days += DAY_TYPES[begin : end + 1]
        else:
            raise _refusal("no_days", "{value} are no days", {"value": str(part)})
    return tuple(dict.fromkeys(days))


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Amount = Annotated[Decimal, BeforeValidator(_amount_of(6))]
PositiveAmount = Annotated[Decimal, BeforeValidator(_amount_of(6, positive=True))]
Fen = Annotated[Decimal, BeforeValidator(_amount_of(2, positive=True))]
Quantity = Annotated[Measure, BeforeValidator(_quantity_of(positive=False))]
PositiveQuantity = Annotated[Measure, BeforeValidator(_quantity_of(positive=True))]
TimeOfDay = Annotated[int, BeforeValidator(_parse_time)]
Days = Annotated[tuple[DayType, ...], BeforeValidator(_parse_days)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,79}$")]


class PlacedRow(Row):
    """A row that knows where it stands."""

    _place: Place = PrivateAttr(default=NOWHERE)

    @property
    def place(self) -> Place:
        """File and line."""
        return self._place

    def put(self, place: Place) -> None:
        """Say where the row stands."""
        self._place = place


class ChargeClassRow(PlacedRow):
    """What usage is classified into; what is left out is as in the class above.

    The price and the allowances of `before_class` go before those of the class above.
    """

    charge_class: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    parent_class: str | None = None
    before_class: str | None = None
    service: Service | None = None
    unit: Unit | None = None
    bill_item_code: str | None = None
    name_zh: Text
    name_en: Text


class PeriodRow(PlacedRow):
    """A band on some types of day, from a time of the local clock to another."""

    band: Id
    days: Days
    from_second: TimeOfDay = Field(alias="from")
    to_second: TimeOfDay = Field(alias="to")


class HolidayRow(PlacedRow):
    """A date that has the bands of a holiday."""

    holiday_date: date
    name_zh: Text
    name_en: Text


class CalendarRow(PlacedRow):
    """The bands of a week and of holidays."""

    calendar_id: Id
    name_zh: Text
    name_en: Text
    periods: tuple[PeriodRow, ...]
    holidays: tuple[HolidayRow, ...] = ()


class TierRow(PlacedRow):
    """A slot of a record, or a tier of the cycle: from (inclusive) to (exclusive) a quantity.

    Left out, it begins where the one before ends, and has no end. `is_partial`: priced pro rata
    instead of in increments. `flat_amount`: due once when the tier is entered.
    """

    from_quantity: Quantity | None = None
    to_quantity: Quantity | None = None
    increment_quantity: PositiveQuantity | None = None
    per_quantity: PositiveQuantity | None = None
    price_amount: Amount
    flat_amount: Amount = Decimal(0)
    is_partial: bool = False


class UsagePriceRow(PlacedRow):
    """The price of a charge class, all day or in a band.

    slots: inside a record; graduated: each unit at its tier of the cycle; volume: the whole
    quantity of the cycle at the tier it ends in; package: every started increment.
    `beyond: free` says that what follows the last tier costs nothing.
    """

    charge_class: str
    band: str | None = None
    model: Literal["slots", "graduated", "volume", "package"]
    tiers: tuple[TierRow, ...] = ()
    beyond: Literal["free"] | None = None
    repeat_quantity: PositiveQuantity | None = None
    overhang: Literal["absorb", "each"] = "absorb"
    connection_fee_amount: Amount = Decimal(0)
    minimum_amount: PositiveAmount | None = None
    maximum_amount: PositiveAmount | None = None
    rounding_mode: Literal["half_up", "up", "down"] = "half_up"
    rounding_digits: int = Field(3, ge=0, le=6)
    bill_item_code: str | None = None

    @property
    def name(self) -> str:
        """Charge class, and band where there is one."""
        return self.charge_class + (f"/{self.band}" if self.band else "")


class CoverageRow(PlacedRow):
    """A charge class, with those below it, in a band or all day."""

    charge_class: str
    band: str | None = None

    @property
    def name(self) -> str:
        """Charge class, and band where there is one."""
        return self.charge_class + (f"/{self.band}" if self.band else "")


def _as_coverage(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple({"charge_class": one} if isinstance(one, str) else one for one in value)
    return value


class AllowanceRow(PlacedRow):
    """Free units (or money) a cycle, drawn raw or in rounded-up increments."""

    allowance: Id
    name_zh: Text | None = None
    name_en: Text | None = None
    unit: Literal["second", "octet", "event", "money"]
    size_quantity: PositiveQuantity
    priority: int = Field(1, ge=1, le=1000)
    scope: Literal["line", "shared", "pooled"] = "line"
    quantity_basis: Literal["raw", "rounded"] = "raw"
    rounding_increment: PositiveQuantity = Measure(Decimal(1))
    rollover_months: int = Field(0, ge=0, le=120)
    covers: Annotated[
        tuple[CoverageRow, ...], BeforeValidator(_as_coverage), Field(min_length=1)
    ]  # fmt: skip


class DiscountRow(PlacedRow):
    """A discount on bill items; discounts apply in the order in which they are declared."""

    discount: Id
    name_zh: Text
    name_en: Text
    kind: Literal["percent", "amount", "cap", "minimum"]
    value: PositiveAmount
    bill_item_codes: Names = ()


class OneOffPriceRow(PlacedRow):
    """What is due once on an occasion."""

    occasion: Occasion
    amount: Amount
    bill_item_code: str = "one_off"


class CommitmentRow(PlacedRow):
    """How long a holder binds himself, and what leaving before costs, or changing the plan."""

    months: int = Field(ge=1, le=120)
    penalty_rule: Literal["fixed", "remaining_share"]
    penalty_value: Amount
    penalty_on: Literal["leave", "leave_or_change"] = "leave"


class ComponentRow(PlacedRow):
    """An offering that a bundle groups, and what its monthly fee is while it is held through it.

    included: nothing, the bundle's fee holds it; own: as ever; replaced: `fee_amount`.
    """

    component: Id
    fee_rule: Literal["included", "own", "replaced"] = "included"
    fee_amount: Amount | None = None


class VersionRow(PlacedRow, Validity):
    """One version of an offering's prices: its own, and those of price lists.

    `not_offered`: classes a plan need not price because its lines do not have the service.
    """

    version_number: int = Field(ge=1, le=LAST_VERSION)
    valid_from: date = Field(ge=_FIRST_DAY)
    monthly_fee_amount: Amount
    currency_code: Literal["CNY"] = "CNY"
    first_month_rule: Literal["prorated", "whole", "half_after_mid", "free"] = "prorated"
    last_month_rule: Literal["prorated", "whole"] = "prorated"
    suspension_fee_amount: Amount | None = None
    minimum_consumption_amount: Fen | None = None
    late_usage_policy: Literal["next_bill", "restate", "write_off"] = "next_bill"
    calendar: str | None = None
    price_list: Names = ()
    usage_prices: tuple[UsagePriceRow, ...] = ()
    not_offered: Names = ()
    allowances: tuple[AllowanceRow, ...] = ()
    discounts: tuple[DiscountRow, ...] = ()
    one_off_prices: tuple[OneOffPriceRow, ...] = ()
    commitment: CommitmentRow | None = None
    components: tuple[ComponentRow, ...] = ()


OfferingType = Literal["plan", "addon", "content", "bundle"]


class OfferingRow(PlacedRow):
    """One offering and its versions.

    A bundle groups plans and add-ons and has no usage of its own. Content has no holders: whoever
    uses it pays. `sp_id` and `content_id` are what its provider's records call the two.
    """

    offering_id: Id
    offering_type: OfferingType
    sp_id: Text | None = None
    content_id: Text | None = None
    name_zh: Text
    name_en: Text
    status: Literal["active", "withdrawn"] = "active"
    versions: tuple[VersionRow, ...] = Field(min_length=1)


class CatalogueFile(PlacedRow):
    """One file of a catalogue."""

    charge_classes: tuple[ChargeClassRow, ...] = ()
    calendars: tuple[CalendarRow, ...] = ()
    price_lists: dict[str, tuple[UsagePriceRow, ...]] = Field(default_factory=dict)
    offerings: tuple[OfferingRow, ...] = ()
