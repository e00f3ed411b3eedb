"""The arithmetic of a usage charge, worked out again from its parts, in lines a clerk can check.

What a usage measured, what allowances gave, the steps of its price, the running total before it:
from these the charge follows by whole numbers and fractions alone. Nothing here reads a charge;
that the result is the charge is for `explanation` to compare, and for a test over every charge.

Quantities are in millionths of the unit and costs are numerators over the version's denominator, as
in the models ``billing__price_step`` and ``billing__price_rule``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

MICRO = 1_000_000
_KILOBYTE = 1024
_DIGITS = 9  # of a fraction that has no end


@dataclass(frozen=True)
class Line:
    """One line of arithmetic: what it works out (a message), how, and what comes out."""

    key: str
    formula: str
    result: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tier:
    """A slot or tier as the tariff words it: quantities in units, the price of a quantity."""

    from_quantity: int
    to_quantity: int | None
    per_quantity: int
    price_amount: Decimal


@dataclass(frozen=True)
class Step:
    """One step of a price; see `operational.catalogue.price_steps`."""

    above: int
    up_to: int | None
    start: int
    cap: int | None
    increment: int
    base: int
    unit: int

    def holds(self, quantity: int) -> bool:
        """Whether a quantity is priced by this step."""
        return quantity > self.above and (self.up_to is None or quantity <= self.up_to)

    def count(self, quantity: int) -> int:
        """How many increments are begun within the step."""
        reached = quantity if self.cap is None else min(quantity, self.cap)
        return -(-(reached - self.start) // self.increment)

    def cost(self, quantity: int) -> int:
        """What a quantity costs, from its first unit on."""
        return self.base + self.unit * self.count(quantity)


@dataclass(frozen=True)
class Price:
    """One usage price with all that decides what a usage costs by it."""

    usage_price_id: str
    unit: str
    model: str
    repeat: int | None
    connection_fee: int
    minimum: int | None
    maximum: int | None
    denominator: int
    rounding_mode: str
    rounding: int  # the smallest amount, in millionths
    steps: tuple[Step, ...]
    tiers: tuple[Tier, ...] = ()

    @property
    def is_of_cycle(self) -> bool:
        """Whether the running total of the cycle is priced, not each record."""
        return self.model != "slots"

    def yuan(self, numerator: int) -> Fraction:
        """A cost in units of the currency."""
        return Fraction(numerator, self.denominator * MICRO)

    def step_of(self, quantity: int) -> int | None:
        """The index of the step that prices a quantity, if one does."""
        return next((i for i, step in enumerate(self.steps) if step.holds(quantity)), None)

    def cost(self, quantity: int) -> int:
        """What a quantity costs; a tariff's pattern is gone through as often as it repeats."""
        periods, rest = (0, quantity) if self.repeat is None else divmod(quantity, self.repeat)
        found = self.step_of(rest)
        cost = 0 if found is None else self.steps[found].cost(rest)
        if periods and self.repeat is not None:
            whole = self.step_of(self.repeat)
            cost += periods * (0 if whole is None else self.steps[whole].cost(self.repeat))
        return cost


@dataclass(frozen=True)
class Draw:
    """What a part of a usage drew from one bucket."""

    bucket_id: str
    allowance_id: str
    rank: int
    unit: str
    size: int
    used_before: int  # drawn from the bucket by usage before this one
    is_rounded: bool
    increment: int
    drawn: int


@dataclass(frozen=True)
class Segment:
    """One part of a usage under one price; `before` is the total of the cycle before it, if any."""

    number: int
    usage_price_id: str
    plan_version_id: str
    quantity: int
    before: int | None
    draws: tuple[Draw, ...] = ()


@dataclass(frozen=True)
class Component:
    """What a usage costs under one price, worked out again."""

    usage_price_id: str
    plan_version_id: str
    quantity: int
    left: int
    amount: Decimal
    residue: Fraction  # what rounding added
    lines: tuple[Line, ...]


def work_out(
    segments: Sequence[Segment], prices: dict[str, Price]
) -> tuple[list[Component], dict[int, list[Line]]]:
    """The components of a usage's charge, and the lines of what each segment drew.

    Args:
        segments: the parts of one usage, in order.
        prices: the prices they name.
    """
    drawn: dict[int, list[Line]] = {}
    left: dict[int, int] = {}
    for segment in segments:
        left[segment.number], drawn[segment.number] = _draw(segment, prices)
    groups: dict[tuple[str, str], list[Segment]] = {}
    for segment in segments:
        groups.setdefault((segment.plan_version_id, segment.usage_price_id), []).append(segment)
    is_to_pay = any(left.values())
    parts = [
        _limited(number, members, prices[price_id], left, is_to_pay=is_to_pay)
        for number, ((_, price_id), members) in enumerate(groups.items(), 1)
    ]
    first = prices[segments[0].usage_price_id]
    if len(parts) == 1:
        return [_rounded(parts[0], first)], drawn
    by_plan: dict[str, list[_Part]] = {}
    for part in parts:
        by_plan.setdefault(part.plan_version_id, []).append(part)
    found = [each for members in by_plan.values() for each in _apportioned(members, first)]
    order = list(groups)
    found.sort(key=lambda each: order.index((each.plan_version_id, each.usage_price_id)))
    return found, drawn


@dataclass
class _Part:
    price: Price
    plan_version_id: str
    quantity: int
    left: int
    numerator: int
    lines: list[Line]


def _draw(segment: Segment, prices: dict[str, Price]) -> tuple[int, list[Line]]:
    remains, lines = segment.quantity, []
    for draw in sorted(segment.draws, key=lambda each: each.rank):
        wanted = remains
        if draw.is_rounded and draw.increment:
            wanted = _sign(remains) * -(-abs(remains) // draw.increment) * draw.increment
        free = draw.size - draw.used_before
        drawn = min(wanted, free) if wanted > 0 else max(wanted, -draw.used_before)
        unit = prices[segment.usage_price_id].unit
        formula = f"{shown(wanted, unit)} − {shown(drawn, unit)}"
        if wanted != remains:
            formula = f"{shown(remains, unit)} → {formula}"
        values = {
            "bucket": draw.allowance_id, "size": shown(draw.size, unit),
            "used": shown(draw.used_before, unit), "drawn": shown(drawn, unit),
        }  # fmt: skip
        remains = wanted - drawn
        lines.append(Line("explain.line_draw", formula, shown(remains, unit), values))
    return remains, lines


def _limited(
    number: int, members: Sequence[Segment], price: Price, left: dict[int, int], *, is_to_pay: bool
) -> _Part:
    lines: list[Line] = []
    numerator = 0
    for segment in members:
        cost, more = _cost(price, left[segment.number], segment.before)
        numerator += cost
        lines += more
    if len(members) > 1:
        total = money(price.yuan(numerator))
        lines.append(Line("explain.line_sum", f"{len(members)} ×", total))
    rest = sum(left[segment.number] for segment in members)
    quantity = sum(segment.quantity for segment in members)
    sign = -1 if quantity < 0 else 1
    if rest:
        limited = sign * numerator
        for key, bound, choose in (
            ("explain.line_minimum", price.minimum, max),
            ("explain.line_maximum", price.maximum, min),
        ):
            if bound is not None and choose(limited, bound) != limited:
                before = money(price.yuan(limited))
                limited = choose(limited, bound)
                lines.append(Line(key, before, money(price.yuan(limited))))
        numerator = sign * limited
    if number == 1 and is_to_pay and price.connection_fee:
        fee = sign * price.connection_fee
        formula = f"{money(price.yuan(numerator))} + {money(price.yuan(fee))}"
        numerator += fee
        lines.append(Line("explain.line_connection", formula, money(price.yuan(numerator))))
    return _Part(price, members[0].plan_version_id, quantity, rest, numerator, lines)


def _cost(price: Price, left: int, before: int | None) -> tuple[int, list[Line]]:
    if not price.is_of_cycle:
        if not left:
            return 0, [Line("explain.line_covered", shown(0, price.unit), "0.00")]
        cost, lines = _priced(price, abs(left))
        return _sign(left) * cost, lines
    after = (before or 0) + left
    lines = [
        Line(
            "explain.line_running", f"{shown(before or 0, price.unit)} + {shown(left, price.unit)}",
            shown(after, price.unit),
        )
    ]  # fmt: skip
    costs = []
    for total in (after, before):
        if total is None:  # nothing was used before: not even a fee for the first tier was due
            costs.append(0)
            continue
        cost, more = _priced(price, abs(total))
        lines += more if cost or total else []
        sign = -1 if total < 0 else 1
        costs.append(sign * cost)
    formula = f"{money(price.yuan(costs[0]))} − {money(price.yuan(costs[1]))}"
    lines.append(Line("explain.line_added", formula, money(price.yuan(costs[0] - costs[1]))))
    return costs[0] - costs[1], lines


def _priced(price: Price, quantity: int) -> tuple[int, list[Line]]:
    """What a quantity costs and the lines that show it."""
    lines: list[Line] = []
    parts: list[str] = []
    periods, rest = (0, quantity) if price.repeat is None else divmod(quantity, price.repeat)
    if periods and price.repeat is not None:
        once = price.yuan(price.cost(price.repeat))
        parts.append(f"{periods} × {money(once)} / {shown(price.repeat, price.unit)}")
    last = price.step_of(rest)
    if last is not None:
        running = 0
        for index in range(last + 1 if price.model != "volume" else 1):
            step = price.steps[last if price.model == "volume" else index]
            fee, running = step.base - running, step.base
            if fee:
                parts.append(money(price.yuan(fee)))
            count = step.count(rest if step is price.steps[last] else step.cap or rest)
            if count:
                parts.append(_step_formula(price, step, count))
            running += count * step.unit
    cost = price.cost(quantity)
    formula = " + ".join(parts) or "0"
    values = {"quantity": shown(quantity, price.unit)}
    lines.append(Line("explain.line_price", formula, money(price.yuan(cost)), values))
    return cost, lines


def _step_formula(price: Price, step: Step, count: int) -> str:
    each = price.yuan(step.unit)
    tier = next(
        (
            tier for tier in price.tiers
            if tier.from_quantity * MICRO <= step.start
            and (tier.to_quantity is None or step.start < tier.to_quantity * MICRO)
            and tier.per_quantity
            and Fraction(tier.price_amount) * step.increment / (tier.per_quantity * MICRO) == each
        ),
        None,
    )  # fmt: skip
    if price.unit == "event" and step.increment == MICRO:
        return f"{count} × {money(each)}"
    if tier is None:
        return f"{count} × {shown(step.increment, price.unit)} × {money(each)}"
    rate = f"{money(Fraction(tier.price_amount))}/{shown(tier.per_quantity * MICRO, price.unit)}"
    if step.increment == 1:  # pro rata
        return f"{shown(count, price.unit)} × {rate}"
    return f"{count} × {shown(step.increment, price.unit)} × {rate}"


def _rounded(part: _Part, rule: Price) -> Component:
    unit = part.price.denominator * rule.rounding
    units = _sign(part.numerator) * _divided(abs(part.numerator), unit, rule.rounding_mode)
    return _component(part, rule, units)


def _apportioned(parts: list[_Part], rule: Price) -> list[Component]:
    """The parts of a record, of which the total is rounded; spare units go by largest remainder."""
    unit = parts[0].price.denominator * rule.rounding
    # What is taken back is worked out with its sign turned, so that it mirrors what was charged.
    sign = -1 if parts[0].quantity < 0 else 1
    total = sum(sign * part.numerator for part in parts)
    units = _sign(total) * _divided(abs(total), unit, rule.rounding_mode)
    floors = [divmod(sign * part.numerator, unit) for part in parts]
    spare = units - sum(whole for whole, _ in floors)
    order = sorted(range(len(parts)), key=lambda index: (-floors[index][1], index))
    raised = set(order[:spare])
    formula = " + ".join(money(part.price.yuan(part.numerator)) for part in parts)
    for index, part in enumerate(parts):
        rounded = money(Fraction(sign * units * rule.rounding, MICRO))
        part.lines.append(Line("explain.line_record", formula, rounded))
        floors[index] = (sign * (floors[index][0] + (index in raised)), 0)
    return [_component(part, rule, whole) for part, (whole, _) in zip(parts, floors, strict=True)]


def _component(part: _Part, rule: Price, units: int) -> Component:
    amount = Decimal(units * rule.rounding).scaleb(-6)
    exact = part.price.yuan(part.numerator)
    part.lines.append(
        Line(
            "explain.line_rounding", money(exact), money(Fraction(amount)),
            {"mode": rule.rounding_mode, "digits": money(Fraction(rule.rounding, MICRO)),
             "residue": signed(Fraction(amount) - exact)},
        )
    )  # fmt: skip
    return Component(
        part.price.usage_price_id, part.plan_version_id, part.quantity, part.left, amount,
        Fraction(amount) - exact, tuple(part.lines),
    )  # fmt: skip


def _divided(numerator: int, denominator: int, mode: str) -> int:
    if mode == "up":
        return -(-numerator // denominator)
    if mode == "down":
        return numerator // denominator
    return (2 * numerator + denominator) // (2 * denominator)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def money(amount: Fraction) -> str:
    """An amount, exactly; one whose digits have no end with nine of them and an ellipsis."""
    scaled = amount * 10**12
    if scaled.denominator == 1:
        text = f"{Decimal(scaled.numerator).scaleb(-12):f}"
        whole, _, digits = text.partition(".")
        return f"{whole}.{digits.rstrip('0').ljust(2, '0')}"
    cut = int(abs(amount) * 10**_DIGITS)
    return f"{'-' if amount < 0 else ''}{Decimal(cut).scaleb(-_DIGITS):f}…"


def signed(amount: Fraction) -> str:
    """An amount with its sign, or 0."""
    if not amount:
        return "0"
    return f"+{money(amount)}" if amount > 0 else money(amount)


def shown(micro: int, unit: str | None) -> str:
    """A quantity of millionths in the unit clerks reckon in: seconds, octets by powers of 1,024."""
    number = Fraction(micro, MICRO)
    if unit == "octet":
        for name in ("GB", "MB", "KB"):
            size = _KILOBYTE ** ("KB", "MB", "GB").index(name) * _KILOBYTE
            if number and number % size == 0:
                return f"{number / size} {name}"
        return f"{_plain(number)} B"
    if unit == "money":
        return money(number)
    return f"{_plain(number)} s" if unit == "second" else _plain(number)


def _plain(number: Fraction) -> str:
    scaled = number * MICRO
    text = f"{Decimal(int(scaled)).scaleb(-6):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
