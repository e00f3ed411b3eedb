"""Charging records: files after 3GPP TS 32.297 of records after TS 32.298 in BER.

A file may mix records of all domains. They are read as a stream, a block of whole records at a
time; the records of one kind in a block are decoded together, and put back in file order. The
kinds, their tags and how elements become columns are in `charging_tags`.

What tells a call from others (`call_reference`, the parts joined by ``|``, absent ones left out;
null without the last), and what numbers and ends its parts:

=================================  ==============================================  ================
record                             call_reference                                  part, cause
=================================  ==============================================  ================
moCall, mtCall                     recordingEntity, callReference; else            sequenceNumber,
                                   recordingEntity, networkCallReference           causeForTerm
moSMS, sgsnSMO                     recordingEntity, time, messageReference         whole
mtSMS, sgsnSMT                     recordingEntity, serviceCentre, time            whole
sCSMO, sCSMT                       sMSNodeAddress, time, messageReference          whole
iSMSMO, iSMSMT                     time, messageReference                          whole
pGW                                p-GWAddress, chargingID                         recordSequence-
sgsnPDP, sGW, ePDG, tWAG           own address, gateway's address, chargingID      Number, cause-
chargingFunction, PDU session      recordingNetworkFunctionID, pDUSessionId,       ForRecClosing
                                   pDUSessionChargingID; else function and
                                   chargingSessionIdentifier
chargingFunction, short message    function, time, messageReference                whole
sCSCF, aS, mMTel                   the kind of node, iMS-Charging-Identifier;      recordSequence-
                                   else session-Id                                 Number, cause-
                                                                                   ForRecordClosing
mMO1S, mMR1RtRq, mMF               messageID                                       whole
=================================  ==============================================  ================

``cause_for_closing`` is the record's own cause, whose codes differ by domain: CauseForTerm,
CauseForRecClosing, CauseForRecordClosing, the status code of a multimedia message. Of a short
message it is 0, or 3 (as CauseForTerm `unsuccessfulCallAttempt`) where the record has a result,
which only failed ones have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats import ber
from ingestion.formats.ber import BoolArray, Field, IntArray, Octets
from ingestion.formats.charging_fields import Decoding, Found, identifier
from ingestion.formats.charging_file import (
    BLOCK_OCTETS,
    BLOCK_RECORDS,
    Block,
    header_length,
    no_header,
    read_blocks,
    read_header,
)
from ingestion.formats.charging_kinds import Columns, Kind, constant
from ingestion.formats.charging_tags import (
    circuit,
    converged,
    ims,
    multimedia,
    packet,
    short_message,
    unrated,
)
from ingestion.formats.interface import (
    ARROW_TYPES,
    MALFORMED,
    RAW_RECORD_LIMIT,
    USAGE_COLUMNS,
    FileFacts,
    RawFile,
    batch_table,
)
from tollhouse.file_reasons import FileReason

KINDS: tuple[Kind, ...] = (
    *circuit.KINDS,
    *packet.KINDS,
    *short_message.KINDS,
    *ims.KINDS,
    *multimedia.KINDS,
    *converged.KINDS,
    *unrated.KINDS,
)
_KIND_OF: dict[int, Kind] = {identifier(kind.tag, constructed=True): kind for kind in KINDS}
RECORD_TAGS: npt.NDArray[np.int64] = np.array(sorted(_KIND_OF), np.int64)

INDEFINITE = 2  # key of `ber.FAULTS`
MOST_MISSES = 20  # that are told of one record


class ChargingRecordFormat:
    """TS 32.297 files of TS 32.298 records.

    `block_octets` and `block_records` bound what is read and decoded at a time.
    """

    name = "3gpp_cdr"
    numbers_files = True

    def __init__(
        self, block_octets: int = BLOCK_OCTETS, block_records: int = BLOCK_RECORDS
    ) -> None:
        self.block_octets = block_octets
        self.block_records = block_records

    def recognises(self, head: bytes) -> bool:
        """Whether the lengths in the file header agree with each other."""
        return header_length(head) is not None

    def read_facts(self, file: RawFile) -> FileFacts:
        """What the header says; it does not name the sender, and the times in it have no year."""
        return read_header(file.head, file.size, file.name, file.received_at)

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every record of the file, a block at a time."""
        start = header_length(file.head)
        if start is None:
            raise no_header(file.name)
        with file.open_stream() as stream:
            for block in read_blocks(
                stream,
                start,
                RECORD_TAGS,
                block_octets=self.block_octets,
                block_records=self.block_records,
            ):
                yield _decode_block(block)


class _Outcome:
    """What became of the records of a block: faults, and octets to keep beside the rows."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.faults = dict(block.faults)
        self.misses: dict[int, str] = {}

    def take_over(self, decoding: Decoding, rows: IntArray) -> None:
        """Note what was found wrong with the records at `rows` of the block."""
        starts, base = self.block.starts, self.block.base
        for index, why in decoding.reasons.items():
            row = int(rows[index])
            said = FileReason("record_at", {"at": str(base + starts[row]), "why": why})
            self.faults[row] = (MALFORMED, said.kept())
        for index, whys in decoding.misses.items():
            if decoding.is_sound[index]:
                row = int(rows[index])
                why = reduce(_both, whys[:MOST_MISSES])
                said = FileReason("record_at", {"at": str(base + starts[row]), "why": why})
                self.misses[row] = said.kept()

    def columns(self) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Code, explanation and octets (hex); null for records that could be read wholly."""
        block, count = self.block, len(self.block.starts)
        if not self.faults and not self.misses:
            nothing = pa.nulls(count, pa.string())
            return nothing, nothing, nothing
        columns: list[npt.NDArray[np.object_]] = [np.full(count, None, object) for _ in range(3)]
        said: dict[int, tuple[str | None, str]] = {
            row: (None, why) for row, why in self.misses.items()
        }
        said.update(self.faults)
        for row, (code, why) in said.items():
            start, end = int(block.starts[row]), int(block.ends[row])
            raw = block.content[start : min(end, start + RAW_RECORD_LIMIT)].hex()
            for column, value in zip(columns, (code, why, raw), strict=True):
                column[row] = value
        error, detail, raw_record = (pa.array(column, pa.string()) for column in columns)
        return error, detail, raw_record


def _both(first: FileReason, then: FileReason) -> FileReason:
    return FileReason("both", {"first": first, "then": then})


def _decode_block(block: Block) -> pa.Table:
    outcome = _Outcome(block)
    count = len(block.starts)
    tags = np.zeros(count, np.int64)
    sound = np.ones(count, bool)
    sound[list(block.faults)] = False
    rows = np.flatnonzero(sound)
    tags[rows], values, lengths, wrong = ber.read_heads(block.octets, block.bodies[rows])
    bodies, ends = np.zeros((2, count), np.int64)
    bodies[rows], ends[rows] = values, values + lengths
    is_indefinite = np.zeros(count, bool)
    is_indefinite[rows] = wrong == INDEFINITE
    parts: list[tuple[IntArray, Columns]] = []
    for tag in np.unique(tags[rows]).tolist():
        mine = np.flatnonzero(sound & (tags == tag))
        kind = _KIND_OF.get(tag)
        if kind is None:
            for row in mine.tolist():
                why = FileReason(
                    "no_record_tag", {"tag": f"{tag:X}", "at": str(block.base + block.bodies[row])}
                )
                at = str(block.base + block.starts[row])
                said = FileReason("record_at", {"at": at, "why": why})
                outcome.faults[row] = (MALFORMED, said.kept())
            continue
        records = _Records(mine, bodies[mine], ends[mine], is_indefinite[mine])
        for name, theirs in _namesakes(kind, block.octets, records):
            parts.append((theirs.rows, {"record_type": constant(name, len(theirs.rows))}))
            records = records.without(theirs.rows)
        parts += _decode_kind(kind, block, records, outcome)
    errors, details, raw_records = outcome.columns()
    return batch_table(
        offsets=pa.array(block.base + block.starts),
        lengths=pa.array(block.ends - block.starts),
        errors=errors,
        details=details,
        raw_records=raw_records,
        fields=_in_file_order(parts, count),
    )


@dataclass(frozen=True)
class _Records:
    """Some records of a block: their rows in it, and where what their outermost element holds is.

    The ends of those of an indefinite length are not known.
    """

    rows: IntArray
    starts: IntArray
    ends: IntArray
    is_indefinite: BoolArray

    def where(self, keep: BoolArray) -> _Records:
        return _Records(
            self.rows[keep], self.starts[keep], self.ends[keep], self.is_indefinite[keep]
        )

    def without(self, rows: IntArray) -> _Records:
        return self.where(~np.isin(self.rows, rows))


def _namesakes(kind: Kind, octets: Octets, records: _Records) -> Iterator[tuple[str, _Records]]:
    """The records under the tag of a kind that are of another: their recordType says so.

    It is the first element of every record (its tag is 0).
    """
    if not kind.namesakes:
        return
    tag, start, length, wrong = ber.read_heads(octets, records.starts)
    is_type = (tag == identifier(0)) & (wrong == 0) & (length >= 1) & (length <= 4)
    number = ber.integers(octets, Field(start, length, is_type))
    for other, name in kind.namesakes.items():
        is_other = is_type & (number == other)
        if is_other.any():
            yield name, records.where(is_other)


def _decode_kind(
    kind: Kind, block: Block, records: _Records, outcome: _Outcome
) -> list[tuple[IntArray, Columns]]:
    """The columns of the records of one kind, with the rows of the block they belong to.

    Those with indefinite lengths are rewritten and decoded apart.
    """
    parts: list[tuple[IntArray, Columns]] = []
    plain = records.where(~records.is_indefinite)
    again = [records.rows[records.is_indefinite]]
    if len(plain.rows):
        decoding = Decoding(block.octets, block.base, len(plain.rows))
        columns = _columns(kind, decoding, plain.starts, plain.ends)
        later = decoding.has_indefinite
        again.append(plain.rows[later])
        for index in np.flatnonzero(later).tolist():
            decoding.reasons.pop(index, None)
            decoding.misses.pop(index, None)
        outcome.take_over(decoding, plain.rows)
        if later.any():
            keep = pa.array(~later)
            columns = {name: column.filter(keep) for name, column in columns.items()}
        parts.append((plain.rows[~later], columns))
    indefinite = np.concatenate(again)
    if len(indefinite):
        parts.append(_decode_rewritten(kind, block, np.sort(indefinite), outcome))
    return parts


def _decode_rewritten(
    kind: Kind, block: Block, rows: IntArray, outcome: _Outcome
) -> tuple[IntArray, Columns]:
    """Records with indefinite lengths, rewritten one by one; positions are then not the file's."""
    records: list[bytes] = []
    failures: dict[int, FileReason] = {}
    for index, row in enumerate(rows.tolist()):
        try:
            record = ber.definite(block.content, int(block.bodies[row]), int(block.ends[row]))
        except ber.BerError as error:
            failures[index] = ber.fault_at(error.fault, block.base + error.at)
            record = b"\xa0\x00"
        records.append(record)
    sizes = np.array([len(record) for record in records], np.int64)
    ends = np.cumsum(sizes)
    octets: Octets = ber.padded(b"".join(records))
    _, values, lengths, _ = ber.read_heads(octets, ends - sizes)
    decoding = Decoding(octets, 0, len(rows))
    for index, why in failures.items():
        decoding.reasons[index] = why
        decoding.is_sound[index] = False
    columns = _columns(kind, decoding, values, values + lengths)
    for index, why in decoding.reasons.items():
        if index not in failures:
            first = int(ends[index] - sizes[index])
            decoding.reasons[index] = FileReason("counted_definite", {"why": why, "at": str(first)})
    outcome.take_over(decoding, rows)
    return rows, columns


def _columns(kind: Kind, decoding: Decoding, starts: IntArray, ends: IntArray) -> Columns:
    """The columns of records of one kind; null where the record is malformed."""
    name = constant(kind.name, decoding.count)
    if kind.columns is None or kind.layout is None:
        return {"record_type": name}
    found = Found.walk(decoding, starts, ends, kind.layout, what=FileReason("the_record"))
    columns = kind.columns(found)
    # A kind may call some of its records otherwise.
    if "record_type" in columns:
        name = pc.coalesce(columns["record_type"], name)
    columns["record_type"] = name
    columns["unknown_tag_count"] = pa.array(decoding.unknown)
    _check_type(kind, found)
    return columns if decoding.is_sound.all() else _blanked(columns, decoding.is_sound)


def _check_type(kind: Kind, found: Found) -> None:
    """Refuse records whose recordType is not that of their tag."""
    number, is_present = found.number("recordType", 4)
    if kind.number is not None:
        found.decoding.refuse(
            is_present & (number != kind.number), None,
            lambda at: FileReason(
                "other_record_type",
                {"number": str(number[at]), "kind": kind.name, "expected": str(kind.number)},
            ),
        )  # fmt: skip


def _blanked(columns: Mapping[str, pa.Array], keep: BoolArray) -> Columns:
    """The columns with null where not `keep`."""
    mask = pa.array(keep)
    return {
        name: pc.if_else(mask, column, pa.scalar(None, column.type))
        for name, column in columns.items()
    }


_FIELD_TYPES = {name: ARROW_TYPES[kind] for name, kind in USAGE_COLUMNS.items()}


def _in_file_order(parts: list[tuple[IntArray, Columns]], count: int) -> dict[str, pa.Array]:
    """All columns for all rows of a block, from those of the kinds."""
    if len(parts) == 1 and len(parts[0][0]) == count:
        columns = parts[0][1]
        return {
            name: columns[name].cast(kind) if name in columns else pa.nulls(count, kind)
            for name, kind in _FIELD_TYPES.items()
        }
    place = np.full(count, -1, np.int64)
    filled = 0
    for rows, _ in parts:
        place[rows] = filled + np.arange(len(rows))
        filled += len(rows)
    indices = pa.array(place, mask=place < 0)
    fields: dict[str, pa.Array] = {}
    for name, kind in _FIELD_TYPES.items():
        if not any(name in columns for _, columns in parts):
            fields[name] = pa.nulls(count, kind)
            continue
        pieces = [
            columns[name].cast(kind) if name in columns else pa.nulls(len(rows), kind)
            for rows, columns in parts
        ]
        fields[name] = pa.concat_arrays(pieces).take(indices)
    return fields
