"""Files of the packet gateways: PGW records of TS 32.298 in files of TS 32.297.

Tag numbers are our own table, after TS 32.298 clauses 5.2.2 (PGWRecord, ChangeOfServiceCondition)
and 5.1 (descriptions of the fields); the file and record headers are TS 32.297 clause 6.1.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import numpy as np

from tollhouse.simulator import ber, faults, network
from tollhouse.simulator.ber import Bytes, Element
from tollhouse.simulator.civil_time import Window
from tollhouse.simulator.delivery import CdrFile
from tollhouse.simulator.population import Population
from tollhouse.simulator.switch_files import started
from tollhouse.simulator.traffic import TIME_LIMIT, VOLUME_LIMIT, Column, Records

# PGWRecord and its fields, context-specific tags (TS 32.298 clause 5.2.2.2).
_PGW_RECORD = b"\xbf\x4f"  # [79] constructed
_RECORD_TYPE = b"\x80"
_SERVED_IMSI = b"\x83"
_GATEWAY_ADDRESS = b"\xa4"
_CHARGING_ID = b"\x85"
_SERVING_NODE_ADDRESS = b"\xa6"
_ACCESS_POINT_NAME = b"\x87"
_OPENING_TIME = b"\x8d"
_DURATION = b"\x8e"
_CAUSE_FOR_CLOSING = b"\x8f"
_SEQUENCE_NUMBER = b"\x91"
_SERVED_MSISDN = b"\x96"
_CHARGING_CHARACTERISTICS = b"\x97"
_SERVING_PLMN = b"\x9b"
_SERVED_IMEISV = b"\x9d"
_RAT_TYPE = b"\x9e"
_USER_LOCATION = b"\x9f\x20"
_SERVICE_DATA = b"\xbf\x22"
_SERVING_NODE_TYPE = b"\xbf\x23"
_GATEWAY_PLMN = b"\x9f\x25"
# ChangeOfServiceCondition (the same clause).
_SEQUENCE = b"\x30"
_RATING_GROUP = b"\x81"
_CONDITION_CHANGE = b"\x88"
_UPLINK = b"\x8c"
_DOWNLINK = b"\x8d"
_TIME_OF_REPORT = b"\x8e"
_BINARY_IPV4 = b"\x80"  # GSNAddress, iPBinV4Address

_RECORD_TYPE_PGW = 85
_GTP_SERVING_GATEWAY = b"\x0a\x01\x02"  # ServingNodeType gTPSGW
_EUTRAN, _UTRAN = 6, 1  # RAT-Type, TS 29.061 clause 16.4.7
_HOME_PLMN = bytes.fromhex("64f010")  # MCC 460, MNC 01, as in TS 29.060 clause 7.7.23
_POSTPAID = b"\x08\x00"
_RATING_GROUPS = np.array([1000, 2000, 3000, 32000])
_NETWORK_NAMES = (b"3gnet", b"uninet")
_RECORD_CLOSURE_BITS = {TIME_LIMIT: 0x40, VOLUME_LIMIT: 0x20}  # bits 25 and 26; else bit 24

# Release 8 in the release/version octets (TS 32.297 clauses 6.1.1.3 and 6.1.2.3): identifier 5.
_RELEASE = 5 << 5 | 12
_BER_OF_32251 = 1 << 5 | 7  # data record format BER, TS number 32.251
_HEADER_LENGTH = 52
_NORMAL_CLOSURE = 0  # file closure trigger reason (clause 6.1.1.10)


def gateway_address(source: int) -> IPv4Address:
    """Address of a packet gateway."""
    return IPv4Address(f"10.{network.SOURCES[source].province_code}.0.1")


def encode(
    file: CdrFile, batch: Records, fault: Column, population: Population, window: Window
) -> bytes:
    """The whole file: TS 32.297 header, then each record behind its own header."""
    record = _records(file, batch, fault, population, window)
    length = record.length.astype(">u2").view(np.uint8).reshape(-1, 2)
    kind = np.array([_RELEASE, _BER_OF_32251], dtype=np.uint8)
    head = np.hstack([length, np.tile(kind, (len(batch), 1))])
    framed = Element(
        np.hstack([head, record.matrix]),
        np.hstack([np.ones(head.shape, dtype=np.bool_), record.mask]),
        record.length + 4,
    )
    body = ber.octets(framed)
    header = struct.pack(
        ">IIBBIIIIB20sBHH",
        _HEADER_LENGTH + len(body),
        _HEADER_LENGTH,
        _RELEASE,
        _RELEASE,
        _header_time(file.opened, window),
        _header_time(file.created, window),  # a gateway flushes its last records on closing
        len(batch) + file.count_error,
        file.sequence,
        _NORMAL_CLOSURE,
        bytes(14) + b"\xff\xff" + gateway_address(file.source).packed,
        0,  # no record was lost
        0,  # no routeing filter
        0,  # no private extension
    )
    if file.is_truncated:
        body = body[: len(body) - int(record.length[-1]) // 2]
    return header + body


def _header_time(second: int, window: Window) -> int:
    """Month, day, hour, minute and offset in 32 bits (TS 32.297 clause 6.1.1.4)."""
    at = np.array([second])
    reading = int(window.clock.reading(at)[0])
    offset = int(window.clock.offset(at)[0])
    minutes = abs(offset) // 60
    return (
        reading // 10**8 % 100 << 28
        | reading // 10**6 % 100 << 23
        | reading // 10**4 % 100 << 18
        | reading // 100 % 100 << 12
        | (offset >= 0) << 11
        | minutes // 60 << 6
        | minutes % 60
    )


def _records(
    file: CdrFile, batch: Records, fault: Column, population: Population, window: Window
) -> Element:
    rows = len(batch)
    province = int(network.SOURCES[file.source].province_code)
    seconds = np.where(fault == faults.INVALID_DURATION, batch.duration + 90_000, batch.duration)
    is_part = batch.part > 0
    sequence = ber.tagged(_SEQUENCE_NUMBER, ber.integer(batch.part))
    serving_gateway = np.column_stack(
        [
            np.full(rows, 10),
            np.full(rows, province),
            np.full(rows, 16),
            1 + batch.cell // 65_536 % 8,
        ]
    ).astype(np.uint8)
    name_length = np.array([len(name) for name in _NETWORK_NAMES])
    names = np.array([list(name.ljust(6)) for name in _NETWORK_NAMES], dtype=np.uint8)
    apn = (population.imsis[batch.party] % 10 < 3).astype(np.int64)
    lte = batch.reference % 16 != 0  # most sessions are on LTE
    record = ber.tagged(
        _PGW_RECORD,
        ber.tagged(_RECORD_TYPE, ber.constant(bytes([_RECORD_TYPE_PGW]), rows)),
        ber.tagged(_SERVED_IMSI, ber.fixed(ber.swapped_digits(population.imsis[batch.party], 15))),
        _address(_GATEWAY_ADDRESS, ber.constant(gateway_address(file.source).packed, rows)),
        ber.tagged(_CHARGING_ID, ber.integer(batch.reference)),
        _address(_SERVING_NODE_ADDRESS, ber.fixed(serving_gateway)),
        ber.tagged(_ACCESS_POINT_NAME, ber.cut(names[apn], name_length[apn])),
        ber.tagged(_OPENING_TIME, ber.fixed(_opening_times(batch, fault, window))),
        ber.tagged(_DURATION, ber.integer(seconds)),
        ber.tagged(_CAUSE_FOR_CLOSING, ber.integer(batch.cause)),
        Element(
            sequence.matrix,
            sequence.mask & is_part[:, None],
            np.where(is_part, sequence.length, 0),
        ),
        ber.tagged(_SERVED_MSISDN, _served_msisdn(batch, fault, population)),
        ber.tagged(_CHARGING_CHARACTERISTICS, ber.constant(_POSTPAID, rows)),
        ber.tagged(_SERVING_PLMN, ber.constant(_HOME_PLMN, rows)),
        ber.tagged(
            _SERVED_IMEISV,
            ber.fixed(ber.swapped_digits(population.imeis[batch.party] * 100 + 1, 16)),
        ),
        ber.tagged(_RAT_TYPE, ber.integer(np.where(lte, _EUTRAN, _UTRAN))),
        ber.tagged(_USER_LOCATION, ber.fixed(_location(batch))),
        ber.tagged(_SERVICE_DATA, _service_data(batch, window)),
        ber.tagged(_SERVING_NODE_TYPE, ber.constant(_GTP_SERVING_GATEWAY, rows)),
        ber.tagged(_GATEWAY_PLMN, ber.constant(_HOME_PLMN, rows)),
    )
    # A length that runs past the record's end: the last element's, before its three octets.
    record.matrix[fault == faults.MALFORMED, -4] = 0x7F
    return record


def _address(tag: bytes, content: Element) -> Element:
    return ber.tagged(tag, ber.tagged(_BINARY_IPV4, content))


def _time_stamps(reading: Column, offset: Column) -> Bytes:
    """TimeStamp (TS 32.298 clause 5.1.1): YYMMDDhhmmss in BCD, the sign as ASCII, hhmm."""
    minutes = np.abs(offset) // 60
    return np.hstack(
        [
            ber.plain_digits(reading % 10**12, 12),
            np.where(offset < 0, ord("-"), ord("+")).astype(np.uint8)[:, None],
            ber.plain_digits(minutes // 60 * 100 + minutes % 60, 4),
        ]
    )


def _opening_times(batch: Records, fault: Column, window: Window) -> Bytes:
    reading = started(window.clock.reading(batch.started), fault)
    return _time_stamps(reading, window.clock.offset(batch.started))


def _served_msisdn(batch: Records, fault: Column, population: Population) -> Element:
    """ISDN address: international, E.164 plan, then TBCD; four octets where it is to be short."""
    matrix = np.hstack(
        [
            np.full((len(batch), 1), 0x91, dtype=np.uint8),
            ber.swapped_digits(population.msisdns[batch.party], 13),
        ]
    )
    return ber.cut(matrix, np.where(fault == faults.INVALID_MSISDN, 4, 8))


def _location(batch: Records) -> Bytes:
    """User location: TAI and ECGI of the cell (TS 29.274 clause 8.21)."""
    plmn = np.tile(np.frombuffer(_HOME_PLMN, dtype=np.uint8), (len(batch), 1))
    area = (batch.cell >> 16).astype(">u2").view(np.uint8).reshape(-1, 2)
    cell = (batch.cell & 0xFFFFFFF).astype(">u4").view(np.uint8).reshape(-1, 4)
    kind = np.full((len(batch), 1), 0x18, dtype=np.uint8)
    return np.hstack([kind, plmn, area, plmn, cell])


def _service_data(batch: Records, window: Window) -> Element:
    rows = len(batch)
    closure = np.full(rows, 0x80, dtype=np.uint8)
    for cause, bit in _RECORD_CLOSURE_BITS.items():
        closure[batch.cause == cause] = bit
    change = np.zeros((rows, 5), dtype=np.uint8)
    change[:, 4] = closure
    ended = batch.started + batch.duration
    reported = _time_stamps(window.clock.reading(ended), window.clock.offset(ended))
    group = _RATING_GROUPS[batch.reference % 7 % len(_RATING_GROUPS)]
    return ber.tagged(
        _SEQUENCE,
        ber.tagged(_RATING_GROUP, ber.integer(group)),
        ber.tagged(_CONDITION_CHANGE, ber.fixed(change)),
        ber.tagged(_UPLINK, ber.integer(batch.uplink)),
        ber.tagged(_DOWNLINK, ber.integer(batch.downlink)),
        ber.tagged(_TIME_OF_REPORT, ber.fixed(reported)),
    )
