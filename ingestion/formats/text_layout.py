"""What a YAML layout of a text format may say, and the reading of a folder of layouts.

A layout describes a file (lines, header, trailer, columns) and how its columns fill the fields of
the common vocabulary. It is checked when it is read: a wrong one is refused with file, key and what
to do, so that no file is ever decoded by half a description.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ingestion.formats.interface import USAGE_COLUMNS
from ingestion.formats.text_values import compile_clock, compile_moment

# Encodings in which octets below 128 at the start of a character are ASCII and no part of another
# character is a line feed: lines can be told before the text is.
Encoding = Literal[
    "utf-8", "ascii", "gb18030", "gbk", "gb2312", "big5", "euc-kr", "shift_jis", "iso-8859-1",
    "cp1252",
]  # fmt: skip


class LayoutError(ValueError):
    """A layout cannot be used; the message names the file, the key and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_text(value: Any) -> Any:
    """A scalar of YAML as the text that a file would have; anything else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


class TextRule(_Part):
    """Where a text comes from: one of `column`, `columns` (joined), `constant` or `choose`.

    Then `map` exchanges values; one that it does not name becomes `otherwise`, or stays as it is if
    the layout does not say `otherwise` (``otherwise: null`` leaves it out). A text that is empty
    after that comes from `when_empty`.
    """

    column: str | None = None
    columns: list[str] | None = Field(default=None, min_length=1)
    separator: str = "|"
    constant: str | None = None
    choose: Choice | None = None
    map: dict[str, str | None] | None = Field(default=None, min_length=1)
    otherwise: str | None = None
    when_empty: TextRule | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: Any) -> Any:
        """``service: column_name`` is short for ``service: {column: column_name}``."""
        return {"column": value} if isinstance(value, str) else value

    @field_validator("constant", "otherwise", mode="before")
    @classmethod
    def _scalar(cls, value: Any) -> Any:
        return _as_text(value)

    @field_validator("map", mode="before")
    @classmethod
    def _scalars(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if any(isinstance(key, bool) for key in value):
            raise ValueError("has a key that YAML reads as true or false: put it in quotes")
        return {_as_text(key): _as_text(item) for key, item in value.items()}

    @model_validator(mode="after")
    def _has_one_origin(self) -> TextRule:
        origins = self.origins()
        given = [name for name in origins if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"has {found}: give exactly one of {', '.join(origins)}")
        if "otherwise" in self.model_fields_set and self.map is None:
            raise ValueError("has 'otherwise' without 'map': add the map or remove it")
        return self

    @classmethod
    def origins(cls) -> list[str]:
        """The keys of which one says where the value comes from."""
        return ["column", "columns", "constant", "choose"]

    def used_columns(self) -> set[str]:
        """Names of all columns that the rule looks at."""
        used = {self.column} if self.column else set(self.columns or [])
        if self.choose:
            used |= self.choose.used_columns()
        if self.when_empty:
            used |= self.when_empty.used_columns()
        return used


class Choice(_Part):
    """Another rule by the value of a column: `cases`, and `otherwise` for all others."""

    by: str
    cases: dict[str, TextRule] = Field(min_length=1)
    otherwise: TextRule | None = None

    @field_validator("cases", mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if any(isinstance(key, bool) for key in value):
            raise ValueError("has a key that YAML reads as true or false: put it in quotes")
        return {_as_text(key): rule for key, rule in value.items()}

    def used_columns(self) -> set[str]:
        """Names of all columns that the choice looks at."""
        rules = [*self.cases.values(), *([self.otherwise] if self.otherwise else [])]
        return {self.by}.union(*(rule.used_columns() for rule in rules))


class Elapsed(_Part):
    """Whole seconds from the time in one column to that in another, both written alike."""

    start: str
    end: str
    format: str = "%Y%m%d%H%M%S"

    @field_validator("format")
    @classmethod
    def _is_format(cls, value: str) -> str:
        compile_moment(value)
        return value


class FieldRule(TextRule):
    """How one field of the vocabulary is filled: a text, and how it is read as the field's type."""

    elapsed: Elapsed | None = None
    zone: str | None = Field(default=None, description="'source' or a name such as Asia/Tokyo")
    format: str | None = Field(default=None, description="of a time, or of a duration as a clock")
    in_utc: bool = False
    multiply_by: int | None = Field(default=None, ge=2)
    divide_by: int | None = Field(default=None, ge=2)
    rounding: Literal["up", "down", "half_up"] | None = None
    true_values: list[str] = ["1", "true"]
    false_values: list[str] = ["0", "false"]

    @field_validator("true_values", "false_values", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return [_as_text(item) for item in value] if isinstance(value, list) else value

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, value: str | None) -> str | None:
        if value is not None and value != "source":
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError):
                raise ValueError(
                    f"'{value}' is no time zone: give 'source' or a name such as Asia/Tokyo"
                ) from None
        return value

    @classmethod
    def origins(cls) -> list[str]:
        """The keys of which one says where the value comes from."""
        return [*super().origins(), "elapsed", "zone"]

    def used_columns(self) -> set[str]:
        """Names of all columns that the rule looks at."""
        ends = {self.elapsed.start, self.elapsed.end} if self.elapsed else set()
        return super().used_columns() | ends

    def check(self, field: str) -> None:
        """Raise ValueError if an option has no meaning for the field."""
        kind = USAGE_COLUMNS[field]
        is_number = kind in ("integer", "bigint") and field != "utc_offset_minutes"
        allowed = {
            "zone": field == "utc_offset_minutes",
            "elapsed": is_number,
            "format": kind == "timestamp" or is_number,
            "in_utc": kind == "timestamp",
            "multiply_by": is_number,
            "divide_by": is_number,
            "rounding": is_number,
            "true_values": kind == "boolean",
            "false_values": kind == "boolean",
        }
        for option in self.model_fields_set & allowed.keys():
            if not allowed[option]:
                raise ValueError(f"'{option}' says nothing about {field}: remove it")
        if kind == "timestamp":
            compile_moment(self.format or "%Y%m%d%H%M%S")
        elif self.format is not None:
            compile_clock(self.format)
        if (self.divide_by is None) != (self.rounding is None):
            raise ValueError(
                "a smaller unit needs both 'divide_by' and 'rounding' (up, down or half_up)"
            )
        if self.multiply_by is not None and self.divide_by is not None:
            raise ValueError("has both 'multiply_by' and 'divide_by': keep one")


class Column(_Part):
    """A column of the file; of a fixed-width file with its place, counted from 1, in octets."""

    name: str = Field(min_length=1)
    start: int | None = Field(default=None, ge=1)
    length: int | None = Field(default=None, ge=1)
    trim: Literal["both", "left", "right", "none"] = "both"
    fill: str = Field(default=" ", min_length=1, max_length=1)

    @field_validator("fill")
    @classmethod
    def _is_ascii(cls, value: str) -> str:
        if not value.isascii():
            raise ValueError("is no ASCII character: give one")
        return value

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Trailer(_Part):
    """The last line: `mark` is how it begins, `pattern` all of it, with group `record_count`."""

    mark: str = Field(min_length=1)
    pattern: str = Field(min_length=1)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _checked_pattern(value, {"record_count"})


class Layout(_Part):
    """One text format; its fields are the keys of the YAML file."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: Literal["delimited", "fixed_width"]
    encoding: Encoding = "utf-8"
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    quote: str | None = Field(default=None, min_length=1, max_length=1)
    preamble: str | None = Field(default=None, description="Lines to pass over before the header.")
    header: list[str] = Field(default=[], description="A regular expression per header line.")
    first_line: str | None = Field(default=None, description="Of a file without a header.")
    created_format: str = "%Y%m%d%H%M%S"
    record_type: str | None = Field(default=None, description="First field of a record line.")
    comment: str | None = Field(default=None, min_length=1, description="Begins a line to ignore.")
    trailer: Trailer | None = None
    ends_with_line_feed: bool = True
    named_columns: bool = Field(default=False, description="The last header line names them.")
    optional_columns: int = Field(default=0, ge=0, description="So many at the end may lack.")
    trim: bool = Field(default=False, description="Blanks around the values of delimited columns.")
    record_length: int | None = Field(default=None, ge=1)
    columns: list[Column] = Field(min_length=1)
    fields: dict[str, FieldRule] = Field(min_length=1)

    @field_validator("header")
    @classmethod
    def _header_compiles(cls, value: list[str]) -> list[str]:
        groups = {"source_id", "sequence_number", "created", "utc_offset"}
        return [_checked_pattern(pattern, groups) for pattern in value]

    @field_validator("preamble", "first_line")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        return None if value is None else _checked_pattern(value, set())

    @field_validator("delimiter", "quote")
    @classmethod
    def _is_ascii(cls, value: str | None) -> str | None:
        if value is not None and (ord(value) > 126 or (ord(value) < 32 and value != "\t")):
            raise ValueError("is no printable ASCII character or tab: give one")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Layout:
        self._check_kind()
        if not self.header and self.first_line is None:
            raise ValueError(
                "has neither 'header' nor 'first_line': one must tell such a file from others"
            )
        if self.named_columns and not self.header:
            raise ValueError("'named_columns' needs a header line that names them: add 'header'")
        if self.named_columns and self.record_type is not None:
            raise ValueError("'named_columns' and 'record_type' do not go together: remove one")
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns: {', '.join(twice)} stands twice: give each its own name")
        if self.optional_columns >= len(names):
            raise ValueError("'optional_columns' leaves no column: lower it")
        for field, rule in self.fields.items():
            self._check_field(field, rule, set(names))
        return self

    def _check_kind(self) -> None:
        if self.kind == "delimited":
            if self.delimiter is None:
                raise ValueError("'delimiter' is missing: add it")
            if self.delimiter == self.quote:
                raise ValueError("'quote' and 'delimiter' are the same: change one")
            if self.record_length is not None:
                raise ValueError("'record_length' is for fixed_width files: remove it")
            if any(column.start or column.length for column in self.columns):
                raise ValueError("columns: places are for fixed_width files: give names only")
            return
        for key in ("delimiter", "quote"):
            if getattr(self, key) is not None:
                raise ValueError(f"'{key}' is for delimited files: remove it")
        if self.named_columns or self.optional_columns or self.trim:
            raise ValueError(
                "'named_columns', 'optional_columns' and 'trim' are for delimited files:"
                " remove them (a fixed-width column has its own 'trim')"
            )
        for column in self.columns:
            if column.start is None or column.length is None:
                raise ValueError(f"columns: {column.name} needs 'start' and 'length': add them")
        if self.record_length is not None and self.record_length < self.last_octet:
            raise ValueError(
                f"'record_length' {self.record_length} ends before the last column,"
                f" at {self.last_octet}: correct one of them"
            )

    @property
    def columns_that_may_lack(self) -> int:
        """By how many fields a line may be too short; named columns lack in the header, or not."""
        return 0 if self.named_columns else self.optional_columns

    @property
    def last_octet(self) -> int:
        """Octets of a fixed-width record up to the end of its last column."""
        return max((column.start or 1) + (column.length or 1) - 1 for column in self.columns)

    @staticmethod
    def _check_field(field: str, rule: FieldRule, names: set[str]) -> None:
        if field not in USAGE_COLUMNS:
            raise ValueError(f"fields: '{field}' is none of {', '.join(USAGE_COLUMNS)}: rename it")
        unknown = sorted(rule.used_columns() - names)
        if unknown:
            raise ValueError(
                f"fields: {field} uses '{unknown[0]}', which is no column: add it to 'columns'"
                " or correct the name"
            )
        try:
            rule.check(field)
        except ValueError as error:
            raise ValueError(f"fields: {field}: {error}") from None


def _checked_pattern(pattern: str, groups: set[str]) -> str:
    try:
        found = re.compile(pattern, re.ASCII).groupindex.keys()
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression ({error}): correct it") from None
    unknown = sorted(found - groups)
    if unknown:
        allowed = f"only {', '.join(sorted(groups))}" if groups else "none"
        raise ValueError(f"group '{unknown[0]}' is not known here, {allowed}: rename or remove it")
    return pattern


def read_layouts(folder: Path) -> list[Layout]:
    """The layouts of a folder, ``*.yaml``, by file name.

    Raises:
        LayoutError: one of them cannot be used, or two have one name.
    """
    found: dict[str, Path] = {}
    layouts = []
    for path in sorted(folder.glob("*.yaml")):
        layout = read_layout(path)
        if layout.name in found:
            raise LayoutError(
                f"{path}: name: '{layout.name}' is already that of {found[layout.name].name}:"
                " give each layout its own"
            )
        found[layout.name] = path
        layouts.append(layout)
    return layouts


def read_layout(path: Path) -> Layout:
    """The layout of one file.

    Raises:
        LayoutError: it is no YAML, or says what no layout can say.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise LayoutError(f"{path}: {where}: {error.problem}: correct the YAML") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LayoutError(f"{path}: not readable as YAML in UTF-8 ({error}): save it so") from None
    if not isinstance(content, dict):
        raise LayoutError(f"{path}: holds no keys: describe the format as in the shipped layouts")
    try:
        return Layout.model_validate(content)
    except ValidationError as error:
        raise LayoutError("\n".join(f"{path}: {line}" for line in _explain(error))) from None


def _explain(error: ValidationError) -> list[str]:
    """One line per fault: the key, what is wrong with it, what to do."""
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        match fault["type"]:
            case "missing":
                what = "is missing: add it"
            case "extra_forbidden":
                what = "is no key of a layout: remove it or correct its name"
            case _:
                what = fault["msg"].removeprefix("Value error, ")
                if fault["type"] != "value_error":
                    what = f"{what}, not {fault['input']!r}: correct it"
        lines.append(f"{key}: {what}" if key else what)
    return lines
