"""A price compiled into steps that SQL evaluates exactly, whatever its model.

Every price model is one function from a quantity to a cost, piecewise and rounded up to increments.
Between two bounds the cost is ``base + ceil((min(quantity, cap) - start) / increment) * unit``: a
step. `slots` are evaluated at the quantity of a record, the other models at the running total of
the cycle. What the tariff's rules mean (a started increment that eats into the next slot, a flat
fee due on entering a tier, a price of the whole quantity) is worked out here, once, when a version
is loaded, in fractions: nothing is rounded. The costs of a version's steps share one denominator,
so that sums over the steps of a record stay whole numbers until the tariff's own rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, lcm

# The finest quantity: pro-rata prices are charged by it.
FINEST = Fraction(1, 1_000_000)
MICRO = 1_000_000
# With these bounds no product in the rating models outgrows 38 digits.
LARGEST_DENOMINATOR = 10**12
LARGEST_UNIT = 10**18  # of the finest quantity


class PriceStepError(ValueError):
    """A price cannot be compiled; the message says what of it and why."""


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One slot or tier as authored: quantities in base units, amounts in currency units.

    Attributes:
        from_quantity: where it begins.
        to_quantity: where it ends; None if it does not.
        increment_quantity: what is rounded up to; None for pro rata.
        per_quantity: the quantity that `price_amount` is for.
        price_amount: the price of it.
        flat_amount: due once when the tier is entered.
    """

    from_quantity: Fraction
    to_quantity: Fraction | None
    increment_quantity: Fraction | None
    per_quantity: Fraction
    price_amount: Fraction
    flat_amount: Fraction = Fraction(0)


@dataclass(frozen=True)
class Step:
    """Costs in millionths, as fractions, of the quantities in (`above`, `up_to`]."""

    above: Fraction
    up_to: Fraction | None
    start: Fraction
    cap: Fraction | None
    increment: Fraction
    base: Fraction
    unit: Fraction


@dataclass(frozen=True)
class StepRow:
    """A step as in table ``catalogue.price_step``; numerators over the version's denominator."""

    step_number: int
    above_quantity: Decimal
    up_to_quantity: Decimal | None
    start_quantity: Decimal
    cap_quantity: Decimal | None
    increment_quantity: Decimal
    base_numerator: int
    unit_numerator: int


def compile_price(model: str, tiers: Sequence[Tier], overhang: str = "absorb") -> list[Step]:
    """The steps of one price.

    Args:
        model: `slots` (evaluated for a record), `graduated`, `volume` or `package` (evaluated for
            the running total of the cycle).
        tiers: as authored, in order; a package is one tier whose increment is its size.
        overhang: whether a started increment eats into the next slot (`absorb`) or every slot
            rounds alone (`each`).

    Raises:
        PriceStepError: a tier ends before it begins, an increment is not positive, a tier overlaps
            the one before.
    """
    _check(tiers)
    if model == "slots":
        return _slots(tiers, eats_on=overhang == "absorb")
    if model == "graduated":
        return _graduated(tiers)
    if model == "volume":
        return _volume(tiers)
    if model == "package":
        return _slots(tiers[:1], eats_on=True)
    raise PriceStepError(f"there is no price model {model!r}")


def common_denominator(prices: Iterable[Sequence[Step]]) -> int:
    """The least whole number that makes the costs of all these steps whole.

    Raises:
        PriceStepError: it is too large to calculate with exactly.
    """
    found = lcm(*(part.denominator for price in prices for step in price
                  for part in (step.base, step.unit)))  # fmt: skip
    if found > LARGEST_DENOMINATOR:
        raise PriceStepError(
            f"the prices divide by quantities whose common denominator is {found}, more than"
            f" {LARGEST_DENOMINATOR}: use rounder quantities to price by"
        )
    return found


def step_rows(steps: Sequence[Step], denominator: int) -> list[StepRow]:
    """The rows of ``catalogue.price_step`` for one price.

    Raises:
        PriceStepError: a price is too large to calculate with exactly.
    """
    rows = []
    for number, step in enumerate(steps, 1):
        base, unit = step.base * denominator, step.unit * denominator
        by_finest = unit / (step.increment * MICRO)
        if by_finest > LARGEST_UNIT or max(unit, base) > LARGEST_UNIT * MICRO:
            raise PriceStepError(f"the price {float(unit / denominator / MICRO)} is too large")
        rows.append(
            StepRow(
                step_number=number,
                above_quantity=_decimal(step.above),
                up_to_quantity=None if step.up_to is None else _decimal(step.up_to),
                start_quantity=_decimal(step.start),
                cap_quantity=None if step.cap is None else _decimal(step.cap),
                increment_quantity=_decimal(step.increment),
                base_numerator=int(base),
                unit_numerator=int(unit),
            )
        )
    return rows


def _slots(tiers: Sequence[Tier], *, eats_on: bool) -> list[Step]:
    steps: list[Step] = []
    base, end = Fraction(0), Fraction(0)
    for tier in tiers:
        start = max(tier.from_quantity, end) if eats_on else tier.from_quantity
        if tier.to_quantity is not None and start >= tier.to_quantity:
            continue  # the slots before ate it
        increment, unit = _increment(tier)
        steps.append(Step(start, None, start, tier.to_quantity, increment, base, unit))
        if tier.to_quantity is not None:
            count = ceil((tier.to_quantity - start) / increment)
            base += count * unit
            end = start + count * increment
    return _joined(steps)


def _graduated(tiers: Sequence[Tier]) -> list[Step]:
    steps: list[Step] = []
    base = Fraction(0)
    for tier in tiers:
        increment, unit = _increment(tier)
        base += tier.flat_amount * MICRO
        above = tier.from_quantity if steps or not tier.flat_amount else Fraction(-1)
        steps.append(Step(above, None, tier.from_quantity, tier.to_quantity, increment, base, unit))
        if tier.to_quantity is not None:
            base += ceil((tier.to_quantity - tier.from_quantity) / increment) * unit
    return _joined(steps)


def _volume(tiers: Sequence[Tier]) -> list[Step]:
    steps: list[Step] = []
    for tier in tiers:
        increment, unit = _increment(tier)
        flat = tier.flat_amount * MICRO
        above = tier.from_quantity if steps or not flat else Fraction(-1)
        steps.append(Step(above, None, Fraction(0), tier.to_quantity, increment, flat, unit))
    return _joined(steps)


def _joined(steps: Sequence[Step]) -> list[Step]:
    """The steps, each reaching up to where the next one begins."""
    ends = [step.above for step in steps[1:]] + [None]
    return [
        Step(step.above, end, step.start, step.cap, step.increment, step.base, step.unit)
        for step, end in zip(steps, ends, strict=True)
    ]


def _increment(tier: Tier) -> tuple[Fraction, Fraction]:
    """The increment and its cost in millionths."""
    increment = FINEST if tier.increment_quantity is None else tier.increment_quantity
    return increment, tier.price_amount * MICRO * increment / tier.per_quantity


def _check(tiers: Sequence[Tier]) -> None:
    if not tiers:
        raise PriceStepError("a price has no tier")
    end: Fraction | None = Fraction(0)
    for number, tier in enumerate(tiers, 1):
        if end is None:
            raise PriceStepError(f"tier {number} follows one without end")
        if tier.from_quantity < end:
            raise PriceStepError(
                f"tier {number} begins at {_decimal(tier.from_quantity)}, before the end of the one"
                f" before at {_decimal(end)}"
            )
        if tier.to_quantity is not None and tier.to_quantity <= tier.from_quantity:
            raise PriceStepError(
                f"tier {number} ends at {_decimal(tier.to_quantity)}, not after it begins at"
                f" {_decimal(tier.from_quantity)}"
            )
        if tier.per_quantity <= 0:
            raise PriceStepError(f"tier {number} is priced per {_decimal(tier.per_quantity)}")
        if tier.increment_quantity is not None and tier.increment_quantity <= 0:
            raise PriceStepError(f"tier {number} is rounded to {_decimal(tier.increment_quantity)}")
        end = tier.to_quantity


def _decimal(value: Fraction) -> Decimal:
    """A quantity of at most six digits after the point, exactly.

    Raises:
        PriceStepError: it has more.
    """
    scaled = value * MICRO
    if scaled.denominator != 1:
        raise PriceStepError(
            f"the quantity {float(value)} has more than six digits after the point"
        )
    return Decimal(scaled.numerator).scaleb(-6)


__all__ = [
    "FINEST",
    "PriceStepError",
    "Step",
    "StepRow",
    "Tier",
    "common_denominator",
    "compile_price",
    "step_rows",
]
