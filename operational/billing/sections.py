"""What an explanation is made of: sections of facts, rows and lines of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from operational.billing.arithmetic import Line

Row = dict[str, Any]
Named = dict[str, str]  # a text by language, and its code


@dataclass(frozen=True)
class Fact:
    """One thing told: its label (a message), the value, and what kind of value it is.

    Kinds: `text`; `code` for identifiers; `named`, its text by language, and its `code`; `word`, a
    message family's member (``family.value``), and `words`, a list of them; `quantity`, millionths
    and their unit; `moment`; `number` and `identity`, masked for roles without need, `raw`, hidden
    from them; `usage`, `bill_item`, `bill` and `note`, to be explained in turn.
    """

    label: str
    value: Any
    kind: str = "text"


@dataclass
class Section:
    """One step of the way from a record to an amount."""

    title: str
    facts: list[Fact] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[Fact]] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def add(self, label: str, value: Any, kind: str = "text") -> None:
        """Tell one fact more, unless there is nothing to tell."""
        if value is not None and value != "":
            self.facts.append(Fact(label, value, kind))


@dataclass
class Explanation:
    """What is explained, what it amounts to, and the sections that show why.

    `worked_out` is the amount as the explanation's own arithmetic gives it; `amount` is what stands
    in the warehouse. `is_live` is false where the published copy was read.
    """

    kind: str
    identifier: str
    province_code: str
    amount: Decimal | None
    worked_out: Decimal | None
    sections: list[Section]
    is_live: bool = True
    # Of a bill: its payments (id, null, amount) and adjustments (null, number of entry, amount).
    movements: list[Row] = field(default_factory=list)

    @property
    def is_agreed(self) -> bool:
        """Whether the arithmetic gives the amount."""
        return self.amount == self.worked_out
