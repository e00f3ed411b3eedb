"""What rate cards in YAML have in common: exact amounts, civil dates, and how they are refused."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from datetime import date, datetime, time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Card = TypeVar("Card", bound=BaseModel)
Key = TypeVar("Key", bound=Hashable)


class RateCardError(ValueError):
    """A rate card is refused; `problems` names every offending row. Nothing was loaded."""

    def __init__(self, path: Path, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        rows = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{path.name} is refused; correct these rows and load it again:\n{rows}")


def _refuse_float(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError(f"write the amount in quotes ('{value}'): a bare {value} is not exact")
    return value


Amount = Annotated[
    Decimal, BeforeValidator(_refuse_float), Field(ge=0, max_digits=18, decimal_places=6)
]


class Row(BaseModel):
    """A row of a rate card: a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Validity(Row):
    """From a civil date (inclusive) to a civil date (exclusive; none = open end)."""

    valid_from: date
    valid_to: date | None = None


def read_yaml(path: Path, card: type[Card]) -> Card:
    """Parse a rate card; raises RateCardError naming the place of each wrong field."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RateCardError(path, [f"not YAML: {error}"]) from error
    try:
        return card.model_validate(content)
    except ValidationError as error:
        raise RateCardError(
            path, [f"{_place(content, item['loc'])}: {item['msg']}" for item in error.errors()]
        ) from error


def _place(content: Any, location: tuple[int | str, ...]) -> str:
    """The path to a wrong field, with rows called by their id where they have one."""
    parts = []
    for step in location:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            content = None
        name = str(step)
        if isinstance(step, int) and isinstance(content, dict):
            for key in ("offering_id", "agreement_id", "charge_class", "allowance"):
                name = str(content.get(key, name))
        parts.append(name)
    return " / ".join(parts)


def midnight(day: date, timezone: str) -> datetime:
    """The moment a civil day begins."""
    return datetime.combine(day, time(), ZoneInfo(timezone))


def repeated(keys: Iterable[Key]) -> list[Key]:
    """The keys that occur more than once, each named once, in order."""
    seen: set[Key] = set()
    twice: dict[Key, None] = {}
    for key in keys:
        if key in seen:
            twice[key] = None
        seen.add(key)
    return list(twice)


def validity_problems(name: str, rows: Iterable[tuple[str, Validity]]) -> list[str]:
    """What is wrong with the validity of rows of which one at a time may be in force."""
    problems = []
    ordered = sorted(rows, key=lambda row: row[1].valid_from)
    for label, row in ordered:
        if row.valid_to is not None and row.valid_to <= row.valid_from:
            problems.append(f"{name} {label}: valid_to {row.valid_to} is not after valid_from")
    for (label, row), (next_label, next_row) in pairwise(ordered):
        if row.valid_to is None or row.valid_to > next_row.valid_from:
            problems.append(
                f"{name} {label} and {next_label}: overlapping validity "
                f"({label} runs to {row.valid_to or 'no end'}, "
                f"{next_label} begins {next_row.valid_from})"
            )
    return problems
