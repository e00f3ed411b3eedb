"""Puts an explanation into words: for a page, for the terminal, for machines; masked by role."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from operational.billing.arithmetic import Line, shown
from operational.billing.sections import Explanation, Fact
from operational.i18n import has_message, translator
from operational.permissions import Principal

# The kinds of fact that another explanation is about.
EXPLAINED_KINDS = frozenset({"usage", "bill_item", "bill", "note"})
_TITLES = {
    "usage": "explain.usage_title", "bill_item": "explain.item_title",
    "bill": "explain.bill_title", "charge": "explain.charge_title",
    "adjustment_note": "accounts.note",
}  # fmt: skip


class Wording:
    """How one reader is told an explanation."""

    def __init__(self, *, language: str, timezone: str, principal: Principal) -> None:
        self.language = language
        self.translate = translator(language)
        self.zone = ZoneInfo(timezone)
        self.principal = principal

    def label(self, key: str) -> str:
        """A label; of a column that has no word, its name."""
        return self.translate(key) if has_message(key) else key.rpartition(".")[2]

    def value(self, fact: Fact) -> str:
        """A fact's value as text."""
        value = fact.value
        if value is None:
            return ""
        match fact.kind:
            case "word":
                text = self.label(str(value))
            case "words":
                text = ("、" if self.language == "zh" else ", ").join(map(self.label, value))
            case "quantity":
                text = self._quantity(*value)
            case "named":
                text = str(value[self.language])
            case "moment":
                moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value
                text = moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")
            case "number" | "identity":
                text = self.principal.masked_msisdn(str(value))
            case "raw" if not self.principal.may("customer.personal_data"):
                text = self.translate("explain.hidden")
            case _:
                text = str(value)
        return text

    def _quantity(self, micro: int, unit: str | None) -> str:
        text = shown(micro, unit)
        return f"{text} {self.translate(f'unit.{unit}')}" if unit in ("day", "month") else text

    def title(self, found: Explanation) -> str:
        """What kind of thing is explained."""
        return self.translate(_TITLES[found.kind])

    def note(self, key: str, values: Mapping[str, Any]) -> str:
        """A sentence that says what the facts do not."""
        words = {
            name: value[self.language] if isinstance(value, dict) else value
            for name, value in values.items()
        }
        return self.translate(key, **words)

    def line(self, line: Line) -> tuple[str, str, str]:
        """A line of arithmetic: what it works out, how, and the result."""
        values = dict(line.values)
        if "mode" in values:
            values["mode"] = self.translate(f"rounding.{values['mode']}")
        if "tax_class" in values:
            values["tax_class"] = self.translate(f"tax_class.{values['tax_class']}")
        return self.translate(line.key, **values), line.formula, line.result

    def verdict(self, found: Explanation) -> str:
        """Whether the arithmetic gives what was charged."""
        if found.amount is None or found.worked_out is None:
            is_note = found.kind == "adjustment_note"
            missing = "explain.note_not_posted" if is_note else "explain.not_rated"
            return self.translate(missing) if found.amount is None else ""
        amounts = {"amount": _amount(found.amount), "worked_out": _amount(found.worked_out)}
        if found.is_agreed:
            return self.translate("explain.agreed", amount=amounts["amount"])
        return self.translate("explain.differs", **amounts)

    def document(self, found: Explanation) -> dict[str, Any]:
        """The explanation for machines: keys as they are, values as text."""
        return {
            "kind": found.kind,
            "id": found.identifier,
            "amount": None if found.amount is None else str(found.amount),
            "worked_out": None if found.worked_out is None else str(found.worked_out),
            "is_agreed": found.is_agreed,
            "is_live": found.is_live,
            "sections": [
                {
                    "section": _name(section.title),
                    "facts": [
                        {"fact": _name(fact.label), "label": self.label(fact.label),
                         "value": self._plain(fact)}
                        for fact in section.facts
                    ],
                    "rows": [
                        {_name(fact.label): self._plain(fact) for fact in row}
                        for row in section.rows
                    ],
                    "arithmetic": [
                        dict(zip(("label", "formula", "result"), self.line(line), strict=True))
                        for line in section.lines
                    ],
                    "notes": [self.note(key, values) for key, values in section.notes],
                }
                for section in found.sections
            ],
        }  # fmt: skip

    def _plain(self, fact: Fact) -> str:
        if fact.kind == "word":
            return str(fact.value or "").rpartition(".")[2]
        if fact.kind == "words":
            return ",".join(_name(key) for key in fact.value)
        if fact.kind == "named":
            return str(fact.value["code"])
        return self.value(fact)


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _amount(amount: Decimal) -> str:
    text = f"{amount:f}"
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(2, '0')}"
