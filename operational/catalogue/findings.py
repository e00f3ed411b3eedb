"""What is wrong with a catalogue: every finding names its row, and its file and line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from operational.i18n import Translate, field_label, has_message, translator

# The rows a finding can be in, from the outside in: ("version", "plan-4g-56@1"), ("tier", "2") …
Path = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Place:
    """Where a row stands: in a line of a file, or at a way in the form it was typed into."""

    file: str = ""
    line: int = 0
    at: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE = Place()

_FIELD_VALUES = ("field", "other_field")  # values of findings that name fields


def tariff_label(translate: Translate, field_name: str) -> str:
    """What the form for a tariff calls a field."""
    key = f"tariff_field.{field_name}"
    return translate(key) if has_message(key) else field_label(translate, field_name)


# Values of findings that are codes, and the messages that say them.
_WORDS_OF_VALUES = {
    "name": ("tariff_field", "charge_class"), "other": ("charge_class",),
    "class": ("charge_class",), "band": ("band",), "model": ("price_model",),
    "unit": ("tariff_choice.unit",), "class_unit": ("tariff_choice.unit",),
}  # fmt: skip


def _row_label(translate: Translate, kind: str, name: str) -> str:
    if kind in ("price", "coverage"):
        charge_class, _, band = name.partition("/")
        words = [(f"charge_class.{charge_class}", charge_class), (f"band.{band}", band)]
    elif kind == "one_off_price":
        words = [(f"occasion.{name}", name)]
    else:
        words = [("", name)]
    return ", ".join(translate(key) if has_message(key) else word for key, word in words if word)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in one row.

    `code` names the message ``finding.<code>``, `values` fill its places.
    """

    code: str
    path: Path = ()
    place: Place = NOWHERE
    values: dict[str, Any] = field(default_factory=dict)

    def row(self, translate: Translate) -> str:
        """The row, in the reader's language."""
        return ", ".join(
            f"{translate(f'finding.row.{kind}')} {name}".strip() for kind, name in self.path
        )

    def message(self, translate: Translate) -> str:
        """What is wrong and what to do, in the reader's language."""
        values = {
            name: str(value) or "–" if isinstance(value, Place) else value
            for name, value in self.values.items()
        }
        return translate(f"finding.{self.code}", **values)

    def text(self, translate: Translate) -> str:
        """Place, row and message in one line."""
        parts = (str(self.place), self.row(translate), self.message(translate))
        return ": ".join(part for part in parts if part)

    def page_text(self, translate: Translate) -> str:
        """Row and message as the form tells them: fields and classes by the labels they have."""
        path = tuple((kind, _row_label(translate, kind, name)) for kind, name in self.path)
        row = replace(self, path=path).row(translate)
        return ": ".join(part for part in (row, self.page_message(translate)) if part)

    def page_message(self, translate: Translate) -> str:
        """The message as the form tells it."""
        key = f"finding_in_form.{self.code}"
        values = {
            name: self._page_word(translate, name, value) for name, value in self.values.items()
        }
        return translate(key if has_message(key) else f"finding.{self.code}", **values)

    def _page_word(self, translate: Translate, name: str, value: Any) -> Any:
        if isinstance(value, Place):
            number = value.at.rpartition(".")[2]
            return translate("tariff_form.row", number=int(number) + 1 if number.isdigit() else "")
        if name in _FIELD_VALUES:
            return tariff_label(translate, str(value))
        if name == "names":
            return ", ".join(tariff_label(translate, one) for one in str(value).split(", "))
        word, _, _ = str(value).partition(":")  # "overhang: each" is about overhang
        for family in _WORDS_OF_VALUES.get(name, ()):
            if has_message(f"{family}.{word}"):
                return translate(f"{family}.{word}")
        return value

    def document(self) -> dict[str, Any]:
        """The finding for machines."""
        named = dict(self.path)
        version = named.get("version")
        return {
            "code": self.code, "file": self.place.file or None, "line": self.place.line or None,
            "offering": named.get("offering") or (version and version.rpartition("@")[0]),
            "version": version, "price": named.get("price"), "allowance": named.get("allowance"),
            "row": self.row(translator("en")), "message_en": self.message(translator("en")),
            "message_zh": self.message(translator("zh")),
        }  # fmt: skip


class CatalogueError(ValueError):
    """A catalogue is refused; `findings` names every offending row. Nothing was loaded."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = sorted(findings, key=lambda found: (found.place.file, found.place.line))
        english, chinese = translator("en"), translator("zh")
        rows = "\n".join(
            f"  - {found.text(english)}\n    {found.row(chinese)}: {found.message(chinese)}"
            for found in self.findings
        )
        super().__init__(
            f"{english('finding.refused', count=len(self.findings))}"
            f" {chinese('finding.refused', count=len(self.findings))}\n{rows}"
        )

    @property
    def problems(self) -> list[str]:
        """The findings as lines in English."""
        return [found.text(translator("en")) for found in self.findings]


def own_errors(error: ValidationError) -> list[Any]:
    """The errors of pydantic without those that only follow from another, further inside.

    A list whose only row is faulty is reported as too short besides.
    """
    errors = error.errors()
    return [
        one for one in errors
        if one["type"] != "too_short"
        or not any(
            other is not one and other["loc"][: len(one["loc"])] == one["loc"] for other in errors
        )
    ]  # fmt: skip


def field_finding(error: Any, path: Path, place: Place) -> Finding:
    """The finding for a field that pydantic refused."""
    name = next((step for step in reversed(error["loc"]) if isinstance(step, str)), "–")
    code = f"field_{error['type']}"
    values = {key: value for key, value in (error.get("ctx") or {}).items() if key != "error"}
    if not has_message(f"finding.{code}"):
        code, values = "field_wrong", {"detail": error["msg"]}
    return Finding(code, path, place, values | {"field": name})
