"""The fields of the vocabulary from the columns of sound records, as a layout's rules say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats.interface import ARROW_TYPES, USAGE_COLUMNS
from ingestion.formats.text_layout import Choice, FieldRule, TextRule
from ingestion.formats.text_values import (
    EPOCHS,
    FIRST_YEAR,
    LAST_YEAR,
    BoolArray,
    Values,
    compile_clock,
    compile_moment,
    read_clocks,
    read_moments,
    read_numbers,
    read_offsets,
    read_truths,
    scale,
    within_32_bits,
    zone_offsets,
)

MICROS = 1_000_000
# The seconds since 1970 of the years that times may have.
_EARLIEST, _LATEST = (
    int(np.datetime64(f"{year}-01-01", "s").astype(np.int64))
    for year in (FIRST_YEAR, LAST_YEAR + 1)
)
_WHOLE_OFFSET = FieldRule(zone="source")


class FieldReader:
    """The rules of one layout, ready to fill the fields from columns of text."""

    def __init__(self, rules: Mapping[str, FieldRule]) -> None:
        self._rules = {name: rules[name] for name in USAGE_COLUMNS if name in rules}

    def read(
        self, columns: Mapping[str, pa.StringArray], count: int, zone: tzinfo
    ) -> tuple[dict[str, pa.Array], BoolArray]:
        """Every field of `count` records, and which records have a value nobody can read.

        `zone` is that of the sender, for times that come without an offset.
        """
        return _Reading(columns, count, zone).fill(self._rules)


class _Reading:
    def __init__(self, columns: Mapping[str, pa.StringArray], count: int, zone: tzinfo) -> None:
        self._columns = columns
        self._count = count
        self._zone = zone
        self._is_unreadable = np.zeros(count, bool)

    def fill(self, rules: Mapping[str, FieldRule]) -> tuple[dict[str, pa.Array], BoolArray]:
        fields = {}
        for name, rule in rules.items():
            kind = USAGE_COLUMNS[name]
            if kind == "varchar":
                fields[name] = self._text(rule)
            elif kind == "boolean":
                text = self._text(rule)
                fields[name], wrong = read_truths(text, rule.true_values, rule.false_values)
                self._is_unreadable |= wrong
            elif kind != "timestamp" and name != "utc_offset_minutes":
                values = self._number(rule)
                if kind == "integer":
                    values = within_32_bits(values)
                self._is_unreadable |= values.is_unreadable
                fields[name] = values.array(ARROW_TYPES[kind])
        fields |= self._times(rules)
        return {name: fields[name] for name in USAGE_COLUMNS if name in fields}, self._is_unreadable

    def _text(self, rule: TextRule) -> pa.StringArray:
        """The text of a rule, null where it is empty."""
        if rule.column is not None:
            text = self._columns[rule.column]
        elif rule.columns is not None:
            parts = [self._columns[name] for name in rule.columns]
            text = pc.binary_join_element_wise(
                *parts, rule.separator, null_handling="replace", null_replacement=""
            )
            if all(part.null_count for part in parts):
                is_blank = parts[0].is_null()
                for part in parts[1:]:
                    is_blank = pc.and_(is_blank, part.is_null())
                text = pc.if_else(is_blank, pa.scalar(None, pa.string()), text)
        elif rule.choose is not None:
            text = self._chosen(rule.choose)
        elif rule.constant:
            text = pa.repeat(pa.scalar(rule.constant, pa.string()), self._count)
        else:
            text = pa.nulls(self._count, pa.string())
        if rule.map is not None:
            text = _exchanged(text, rule)
        if rule.when_empty is not None and text.null_count:
            text = pc.coalesce(text, self._text(rule.when_empty))
        return text

    def _chosen(self, choice: Choice) -> pa.StringArray:
        keys = self._columns[choice.by].dictionary_encode()
        cases = {value: number for number, value in enumerate(choice.cases)}
        others = len(cases)
        table = [cases.get(value, others) for value in keys.dictionary.to_pylist()]
        picks = np.array([*table, cases.get("", others)], np.int64)
        numbers = picks[keys.indices.fill_null(len(table)).to_numpy(zero_copy_only=False)]
        met = np.flatnonzero(np.bincount(numbers, minlength=others + 1)).tolist()
        rules = [*choice.cases.values(), choice.otherwise]
        texts = [
            self._text(rule) if rule is not None and number in met else pa.nulls(
                self._count, pa.string()
            )
            for number, rule in enumerate(rules)
        ]  # fmt: skip
        return texts[met[0]] if len(met) == 1 else pc.choose(pa.array(numbers), *texts)

    def _number(self, rule: FieldRule) -> Values:
        if rule.elapsed is not None:
            begin, end = (
                self._moment(self._columns[name], rule.elapsed.format)[0]
                for name in (rule.elapsed.start, rule.elapsed.end)
            )
            is_read = begin.is_read & end.is_read
            seconds = np.where(is_read, (end.numbers - begin.numbers) // MICROS, 0)
            self._is_unreadable |= begin.is_unreadable | end.is_unreadable
            values = Values(seconds, is_read, is_read)
        elif rule.format is not None:
            values = read_clocks(self._text(rule), compile_clock(rule.format))
        else:
            values = read_numbers(self._text(rule))
        return scale(values, rule.multiply_by, rule.divide_by, rule.rounding)

    @staticmethod
    def _moment(text: pa.StringArray, form: str) -> tuple[Values, Values | None]:
        """Microseconds since 1970 as written, and the offsets written with them, if any."""
        plan = compile_moment(form)
        if plan is not None:
            return read_moments(text, plan)
        parts = EPOCHS[form]
        counts = read_numbers(text)
        in_range = (counts.numbers >= _EARLIEST * parts) & (counts.numbers < _LATEST * parts)
        is_read = counts.is_read & in_range
        micros = np.where(is_read, counts.numbers, 0) * (MICROS // parts)
        return Values(micros, is_read, counts.is_given), None

    def _times(self, rules: Mapping[str, FieldRule]) -> dict[str, pa.Array]:
        """The local time and its offset, each completed from the other."""
        rule = rules.get("started_local")
        if rule is None:
            if "utc_offset_minutes" not in rules:
                return {}
            given = self._offset(rules["utc_offset_minutes"], None, in_utc=False)
            return {"utc_offset_minutes": given.array(pa.int32())}
        form = rule.format or "%Y%m%d%H%M%S"
        moments, written = self._moment(self._text(rule), form)
        in_utc = rule.in_utc or form in EPOCHS
        offset_rule = rules.get("utc_offset_minutes")
        if offset_rule is None and written is not None:
            offsets = written
        else:
            offsets = self._offset(offset_rule or _WHOLE_OFFSET, moments, in_utc=in_utc)
        self._is_unreadable |= moments.is_unreadable | offsets.is_unreadable
        if in_utc:
            is_read = moments.is_read & offsets.is_read
            local = np.where(is_read, moments.numbers + offsets.numbers * 60 * MICROS, 0)
            moments = Values(local, is_read, moments.is_given)
        return {
            "started_local": moments.array(pa.timestamp("us")),
            "utc_offset_minutes": offsets.array(pa.int32()),
        }

    def _offset(self, rule: FieldRule, moments: Values | None, *, in_utc: bool) -> Values:
        if rule.zone is None:
            offsets = read_offsets(self._text(rule))
            self._is_unreadable |= offsets.is_unreadable
            return offsets
        if moments is None:
            nothing = np.zeros(self._count, bool)
            return Values(np.zeros(self._count, np.int64), nothing, nothing)
        zone = self._zone if rule.zone == "source" else ZoneInfo(rule.zone)
        seconds = moments.numbers // MICROS
        minutes = zone_offsets(seconds, moments.is_read, zone, in_utc=in_utc)
        return Values(minutes, moments.is_read, moments.is_read)


def _exchanged(text: pa.StringArray, rule: TextRule) -> pa.StringArray:
    """The text with the values of the rule's map exchanged."""
    mapping: Mapping[str, Any] = rule.map or {}
    keeps = "otherwise" not in rule.model_fields_set
    keys = text.dictionary_encode()
    values = [
        mapping.get(value, value if keeps else rule.otherwise)
        for value in keys.dictionary.to_pylist()
    ]
    table = pa.array([*(value or None for value in values), mapping.get("")], pa.string())
    return table.take(keys.indices.fill_null(len(values)))
