"""Files of the mobile switches: voice and short messages, one ``|``-delimited line a record."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tollhouse.simulator import faults, network
from tollhouse.simulator.civil_time import Window, offset_text
from tollhouse.simulator.delivery import CdrFile
from tollhouse.simulator.numbering import with_luhn_digit
from tollhouse.simulator.population import Population
from tollhouse.simulator.text_columns import (
    HEXADECIMAL,
    Mask,
    choice,
    cut_inside_last_line,
    dialled,
    digits,
    joined,
    lines,
    rewritten,
    where,
)
from tollhouse.simulator.traffic import Column, Records

_TRUNKS_IN, _TRUNKS_OUT = (
    (
        "",
        *(
            network.trunk_group_id(operator, province_code, direction, number)
            for operator, province_code, number in network.TRUNKS
        ),
    )
    for direction in ("in", "out")
)


def encode(
    file: CdrFile, batch: Records, fault: Column, population: Population, window: Window
) -> bytes:
    """The whole file: header, one line a record, trailer with count and total duration."""
    source = network.SOURCES[file.source]
    created = int(window.clock.reading(np.array([file.created]))[0])
    header = (
        f"HDR|{source.source_id}|{file.sequence:06d}|{created}"
        f"|{window.clock.offset_text(file.created)}\n"
    )
    body = _lines(batch, fault, population, window)
    if file.is_truncated:
        return header.encode() + cut_inside_last_line(body)
    seconds = int(batch.duration.sum(dtype=np.int64))
    return header.encode() + body + f"TRL|{len(batch) + file.count_error}|{seconds}\n".encode()


def _lines(batch: Records, fault: Column, population: Population, window: Window) -> bytes:
    cell = pc.binary_join_element_wise(
        HEXADECIMAL.take(pa.array(batch.cell >> 16)),
        HEXADECIMAL.take(pa.array(batch.cell & 0xFFFF)),
        "-",
    )
    text = lines(
        [
            "CDR",
            service(batch, fault),
            choice(network.DIRECTIONS, batch.direction),
            msisdn(batch, fault, population),
            digits(population.imsis[batch.party]),
            digits(with_luhn_digit(population.imeis)[batch.party]),
            other_party(batch, fault),
            digits(started(window.clock.reading(batch.started), fault)),
            _offsets(batch, window),
            duration(batch, fault),
            choice(network.NETWORKS, batch.network),
            cell,
            choice(_TRUNKS_IN, batch.trunk_in),
            choice(_TRUNKS_OUT, batch.trunk_out),
            digits(batch.reference),
            digits(batch.part),
            digits(batch.is_last.astype(np.int64)),
            digits(batch.cause),
        ],
        "|",
    )
    return joined(misshaped(text, fault, delimiter="|"))


def _offsets(batch: Records, window: Window) -> pa.StringArray:
    offsets, rows = np.unique(window.clock.offset(batch.started), return_inverse=True)
    texts = tuple(offset_text(int(offset)) for offset in offsets)
    return choice(texts, rows)


def _alternating(mask: Mask, turn: int, of: int = 2) -> Mask:
    """Every `of`-th row of the mask, beginning at `turn`."""
    chosen: Mask = mask & ((np.cumsum(mask) - 1) % of == turn)
    return chosen


def service(batch: Records, fault: Column) -> pa.StringArray:
    """Name of the service; one that no tariff knows where that is the fault."""
    return where(fault == faults.UNKNOWN_SERVICE, "fax", choice(network.SERVICES, batch.service))


def msisdn(batch: Records, fault: Column, population: Population) -> pa.StringArray:
    """Served number; too short or with a letter where that is the fault."""
    wrong = fault == faults.INVALID_MSISDN
    text = where(_alternating(wrong, 0), "86186", digits(population.msisdns[batch.party]))
    return where(_alternating(wrong, 1), "8618612A45678", text)


def other_party(batch: Records, fault: Column) -> pa.StringArray:
    """The other number as dialled; withheld or empty where that is the fault."""
    wrong = fault == faults.INVALID_OTHER_PARTY
    text = where(_alternating(wrong, 0), "ANONYMOUS", dialled(batch.prefix, batch.other))
    return where(_alternating(wrong, 1), "", text)


def started(reading: Column, fault: Column) -> Column:
    """Start as yyyymmddhhmmss; month 13, or a year ahead, where that is the fault."""
    wrong = fault == faults.INVALID_TIME
    month = reading // 10**8 % 100
    thirteenth = reading + (13 - month) * 10**8
    return np.select(
        [_alternating(wrong, 0), _alternating(wrong, 1)], [thirteenth, reading + 10**10], reading
    )


def duration(batch: Records, fault: Column) -> pa.StringArray:
    """Seconds; negative, beyond a day, or no whole number where that is the fault."""
    wrong = fault == faults.INVALID_DURATION
    text = digits(batch.duration)
    for turn, value in enumerate(("-7", "86461", "12.5")):
        text = where(_alternating(wrong, turn, 3), value, text)
    return text


def misshaped(text: pa.StringArray, fault: Column, *, delimiter: str) -> pa.StringArray:
    """The lines, with a field too few or too many or of an unknown type where that is the fault."""
    wrong = fault == faults.FIELD_COUNT
    text = rewritten(
        text,
        _alternating(wrong, 0),
        pattern=rf"[{delimiter}][^{delimiter}]*\n$",
        replacement="\n",
    )
    text = rewritten(text, _alternating(wrong, 1), pattern=r"\n$", replacement=f"{delimiter}0\n")
    return rewritten(text, fault == faults.MALFORMED, pattern=r"^CDR", replacement="C#R")
