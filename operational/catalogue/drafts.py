"""What stands in the form for a tariff, as it was typed, and the authoring format made of it.

The fields of the form are those of the authoring models: an input is called by its way there,
``usage_prices.3.tiers.0.price_amount``, and what is left empty is left out. What is wrong with it
the checks of the catalogue say (`checks`), nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from operational.catalogue.authoring import (
    BILL_ITEMS,
    MEGABYTE,
    AllowanceRow,
    CoverageRow,
    Measure,
    OfferingRow,
    UsagePriceRow,
    VersionRow,
)  # fmt: skip
from operational.catalogue.content import ALLOWANCE_NAMES, REQUIRED_CLASSES
from operational.problems import InvalidRequestError

Kind = Literal["text", "quantity", "date", "choice", "yes", "names", "rows"]
Document = dict[str, Any]

# What the form does not ask for: versions are numbered, there is one currency, a loaded version has
# copies of prices and not their lists, and an offering begins on sale.
_NOT_ASKED = ("versions", "version_number", "currency_code", "price_list", "status")
# Fields of text that takes few values, and lists of such.
_LISTED = {"bill_item_code": BILL_ITEMS, "bill_item_codes": BILL_ITEMS,
           "not_offered": REQUIRED_CLASSES}  # fmt: skip
# Chosen out of what is in the database.
_REFERENCES = ("charge_class", "band", "calendar", "component")
_LARGEST_INDEX = 4  # digits
YES = "yes"
_BINARY_UNITS = (("GB", MEGABYTE * 1024), ("MB", MEGABYTE), ("KB", 1024))


@dataclass(frozen=True)
class FormField:
    """A field of an authoring model as the form asks for it.

    `default` is what counts where nothing is given. `rows` are the fields of its rows; `most` is
    how many of those there may be.
    """

    name: str
    kind: Kind
    choices: tuple[str, ...] = ()
    is_optional: bool = False
    default: str = ""
    rows: tuple[FormField, ...] = ()
    most: int | None = None

    @property
    def has_inner_rows(self) -> bool:
        """Whether its rows have rows of their own."""
        return any(inner.kind == "rows" for inner in self.rows)


@cache
def form_fields(model: type[BaseModel]) -> tuple[FormField, ...]:
    """The fields that the form asks for to write a row of an authoring model."""
    return tuple(
        _form_field(name, info.annotation, info.default)
        for name, info in model.model_fields.items() if name not in _NOT_ASKED
    )  # fmt: skip


def _form_field(name: str, annotation: Any, default: Any) -> FormField:
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    is_optional = NoneType in parts
    kind = next(part for part in parts if part is not NoneType)
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    told = str(default.value if isinstance(default, Measure) else default)
    is_told = isinstance(default, (str, int, Decimal, Measure)) and not isinstance(default, bool)
    made = FormField(name, "text", is_optional=is_optional, default=told if is_told else "")
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return replace(made, kind="rows", rows=form_fields(inner))
        return replace(made, kind="names", choices=_LISTED.get(name, ()))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return replace(made, kind="rows", rows=form_fields(kind), most=1)
    if get_origin(kind) is Literal:
        return replace(made, kind="choice", choices=get_args(kind))
    if name in _LISTED or name in _REFERENCES:
        return replace(made, kind="choice", choices=_LISTED.get(name, ()))
    kinds: dict[Any, Kind] = {bool: "yes", date: "date", Measure: "quantity"}
    return replace(made, kind=kinds.get(kind, "text"))


OFFERING_FIELDS = form_fields(OfferingRow)
VERSION_FIELDS = form_fields(VersionRow)


@dataclass
class Draft:
    """One row of the form: text by field, chosen names by field, and rows by field.

    `at` is its way in the form, empty for the form itself.
    """

    fields: tuple[FormField, ...]
    at: str = ""
    values: dict[str, str] = field(default_factory=dict)
    chosen: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, list[Draft]] = field(default_factory=dict)

    def name(self, field_name: str) -> str:
        """What the input of a field is called."""
        return f"{self.at}.{field_name}" if self.at else field_name

    def value(self, field_name: str) -> str:
        """What stands in a field."""
        return self.values.get(field_name, "")

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Every input of the form that holds something, by name; rows that hold nothing too."""
        yield from ((self.name(name), value) for name, value in self.values.items() if value)
        for name, chosen in self.chosen.items():
            yield from ((f"{self.name(name)}.{one}", YES) for one in chosen)
        for rows in self.rows.values():
            for row in rows:
                yield from list(row.inputs()) or [(row.name(row.fields[0].name), "")]

    def document(self, *names: str) -> Document:
        """What was typed in the authoring format (of the named fields only); empty is left out."""
        found: Document = {}
        for one in self.fields:
            if names and one.name not in names:
                continue
            if one.kind == "rows":
                rows = [row.document() for row in self.rows.get(one.name, [])]
                if rows:
                    found[one.name] = rows[0] if one.most == 1 else rows
            elif one.kind == "names":
                if self.chosen.get(one.name):
                    found[one.name] = list(self.chosen[one.name])
            elif self.value(one.name):
                found[one.name] = True if one.kind == "yes" else self.value(one.name)
        return found

    def add(self, at: str) -> str:
        """Put an empty row at the end of rows, with the one row it needs inside; says where."""
        owner, one = self._rows_at(at.split("."))
        rows = owner.rows.setdefault(one.name, [])
        if one.most is None or len(rows) < one.most:
            rows.append(_empty(one.rows))
        self.number()
        return rows[-1].at

    def remove(self, at: str) -> str:
        """Take a row out; says where it was."""
        owner, one, number = self._row_at(at)
        del owner.rows[one.name][number]
        self.number()
        return owner.name(one.name)

    def raise_row(self, at: str) -> str:
        """Let a row change places with the one before; says where it is."""
        owner, one, number = self._row_at(at)
        rows = owner.rows[one.name]
        rows.insert(max(number - 1, 0), rows.pop(number))
        self.number()
        return owner.name(f"{one.name}.{max(number - 1, 0)}")

    def number(self) -> None:
        """Call every row by its place."""
        for name, rows in self.rows.items():
            for place, row in enumerate(rows):
                row.at = self.name(f"{name}.{place}")
                row.number()

    def _rows_at(self, way: list[str]) -> tuple[Draft, FormField]:
        one = next((one for one in self.fields if one.name == way[0] and one.kind == "rows"), None)
        if one is None or len(way) == 2:
            raise InvalidRequestError("bad_parameters", names=["do"])
        if len(way) == 1:
            return self, one
        rows = self.rows.get(one.name, [])
        if not _is_index(way[1]) or int(way[1]) >= len(rows):
            raise InvalidRequestError("bad_parameters", names=["do"])
        return rows[int(way[1])]._rows_at(way[2:])

    def _row_at(self, at: str) -> tuple[Draft, FormField, int]:
        way, _, number = at.rpartition(".")
        owner, one = self._rows_at(way.split("."))
        if not _is_index(number) or int(number) >= len(owner.rows.get(one.name, [])):
            raise InvalidRequestError("bad_parameters", names=["do"])
        return owner, one, int(number)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LARGEST_INDEX


def _empty(fields: tuple[FormField, ...]) -> Draft:
    inside = {one.name: [_empty(one.rows)] for one in fields if one.kind == "rows"}
    return Draft(fields, rows=inside)


def read_draft(fields: tuple[FormField, ...], inputs: Mapping[str, str]) -> Draft:
    """The draft that a browser sent; InvalidRequestError names an input that the form lacks."""
    draft = _read(fields, [(name.split("."), name, value) for name, value in inputs.items()])
    draft.number()
    return draft


def _read(
    fields: tuple[FormField, ...], inputs: Iterable[tuple[list[str], str, str]]
) -> Draft:  # fmt: skip
    known = {one.name: one for one in fields}
    draft = Draft(fields)
    inner: dict[str, dict[int, list[tuple[list[str], str, str]]]] = {}
    for way, name, value in inputs:
        one, rest = known.get(way[0]), way[1:]
        if one is None:
            raise InvalidRequestError("bad_parameters", names=[name])
        if one.kind == "rows" and len(rest) > 1 and _is_index(rest[0]):
            rows = inner.setdefault(one.name, {})
            rows.setdefault(int(rest[0]), []).append((rest[1:], name, value))
        elif one.kind == "names" and len(rest) == 1:
            draft.chosen.setdefault(one.name, []).extend(rest if value else ())
        elif one.kind not in ("rows", "names") and not rest:
            draft.values[one.name] = value
        else:
            raise InvalidRequestError("bad_parameters", names=[name])
    for name, numbered in inner.items():
        draft.rows[name] = [_read(known[name].rows, numbered[key]) for key in sorted(numbered)]
    return draft


def draft_of(fields: tuple[FormField, ...], document: Mapping[str, Any]) -> Draft:
    """The draft in which a document of the authoring format stands."""
    draft = _fill(fields, document)
    draft.number()
    return draft


def _fill(fields: tuple[FormField, ...], document: Mapping[str, Any]) -> Draft:
    draft = Draft(fields)
    for one in fields:
        value = document.get(one.name)
        if value is None:
            continue
        if one.kind == "rows":
            rows = [value] if one.most == 1 else value
            draft.rows[one.name] = [_fill(one.rows, row) for row in rows]
        elif one.kind == "names":
            draft.chosen[one.name] = list(value)
        elif one.kind == "yes":
            draft.values[one.name] = YES if value else ""
        else:
            draft.values[one.name] = str(value)
    return draft


# --- rows as they would be written ----------------------------------------------------------------


def written_document(
    row: BaseModel, units: Mapping[str, str], *, is_short: bool = False
) -> Document:  # fmt: skip
    """A row of the authoring format as somebody would write it.

    `units` are those of the charge classes. `is_short` leaves out what need not be said, for files.
    """
    return _written_row(row, units, None, is_short)


def _written_row(
    row: BaseModel, units: Mapping[str, str], unit: str | None, is_short: bool
) -> Document:  # fmt: skip
    if isinstance(row, UsagePriceRow):
        unit = units.get(row.charge_class)
    elif isinstance(row, AllowanceRow):
        unit = row.unit
    found: Document = {}
    for name, info in type(row).model_fields.items():
        value = getattr(row, name)
        is_implied = value == info.get_default() or (
            isinstance(row, AllowanceRow) and name in ("name_zh", "name_en")
            and value == ALLOWANCE_NAMES[row.unit][name == "name_en"]
        )  # fmt: skip
        is_left_out = is_short or isinstance(value, Measure)  # 1 is an increment in every unit
        if not (is_left_out and is_implied and not info.is_required()):
            found[name] = _written(value, units, unit, is_short)
    return found


def _written(value: Any, units: Mapping[str, str], unit: str | None, is_short: bool) -> Any:
    if is_short and isinstance(value, CoverageRow) and value.band is None:
        return value.charge_class
    if isinstance(value, BaseModel):
        return _written_row(value, units, unit, is_short)
    if isinstance(value, tuple):
        return [_written(one, units, unit, is_short) for one in value]
    if isinstance(value, Measure):
        return written_quantity(value.value, value.unit or unit)
    return written_number(value) if isinstance(value, Decimal) else value


def written_number(number: Decimal) -> str:
    """An amount as somebody would write it."""
    return f"{number.normalize():f}"


def written_quantity(value: Decimal, unit: str | None) -> str:
    """A quantity as somebody would write it, exactly: in the largest unit that is whole."""
    if unit == "second":
        is_whole = value != 0 and value % 60 == 0
        return f"{written_number(value / 60)} min" if is_whole else f"{written_number(value)} s"
    if unit == "octet":
        for name, size in _BINARY_UNITS:
            if value != 0 and value % size == 0:
                return f"{written_number(value / size)} {name}"
        return f"{written_number(value)} B"
    return written_number(value)
