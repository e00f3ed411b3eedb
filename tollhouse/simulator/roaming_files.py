"""Files of the clearing house: usage of our subscribers abroad, one CSV line a record."""

from __future__ import annotations

import numpy as np

from tollhouse.simulator import network
from tollhouse.simulator.civil_time import LocalClock, Window, offset_text, utc_datetime
from tollhouse.simulator.delivery import CdrFile
from tollhouse.simulator.numbering import Numbers
from tollhouse.simulator.population import Population
from tollhouse.simulator.switch_files import (
    duration,
    misshaped,
    msisdn,
    other_party,
    service,
    started,
)
from tollhouse.simulator.text_columns import choice, digits, joined, lines
from tollhouse.simulator.traffic import Column, Records

COLUMNS = (
    "record_id", "service", "direction", "served_imsi", "served_msisdn", "other_party",
    "started_local", "utc_offset", "duration_s", "uplink_octets", "downlink_octets",
    "serving_plmn",
)  # fmt: skip


def encode(
    file: CdrFile, batch: Records, fault: Column, population: Population, window: Window
) -> bytes:
    """The whole file: a ``#`` line, the column line, one line a record, ``#END`` with the count."""
    source = network.SOURCES[file.source]
    header = (
        f"#{source.source_id},{file.sequence:06d},"
        f"{utc_datetime(file.created):%Y%m%d%H%M%S},+0000\n{','.join(COLUMNS)}\n"
    )
    local, offset = _visited_times(batch, window)
    offsets, rows = np.unique(offset, return_inverse=True)
    text = lines(
        [
            digits(batch.reference),
            service(batch, fault),
            choice(network.DIRECTIONS, batch.direction),
            digits(population.imsis[batch.party]),
            msisdn(batch, fault, population),
            other_party(batch, fault),
            digits(started(local, fault)),
            choice(tuple(offset_text(int(value)) for value in offsets), rows),
            duration(batch, fault),
            digits(batch.uplink),
            digits(batch.downlink),
            choice(network.NETWORKS, batch.network),
        ],
        ",",
    )
    body = joined(misshaped(text, fault, delimiter=","))
    return header.encode() + body + f"#END,{len(batch) + file.count_error}\n".encode()


def _visited_times(batch: Records, window: Window) -> tuple[Numbers, Numbers]:
    """Start by the clock of the visited country, and that clock's offset."""
    reading = np.zeros(len(batch), dtype=np.int64)
    offset = np.zeros(len(batch), dtype=np.int64)
    for index, country in enumerate(network.COUNTRIES, start=1):
        rows = np.flatnonzero(batch.network == index)
        if len(rows):
            clock = LocalClock(country.zone, window.begins, window.ends)
            reading[rows] = clock.reading(batch.started[rows])
            offset[rows] = clock.offset(batch.started[rows])
    return reading, offset
