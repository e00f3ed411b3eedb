"""RAP, the answers of roaming partners to TAP files (GSMA TD.32, versions 1.1 to 1.5).

A Return Batch sends back what was wrong with a TAP file: the whole of it (fatal), call events of it
(severe), or sequence numbers that never came (missing). An Acknowledgement answers a Return Batch.
None of these is usage: rows have a `record_type` (`rapSevereReturn`, `rapFatalReturn`,
`rapMissingReturn`, `rapAcknowledgement`), no service, and say in `_raw_record` what was returned:
file sequence number, error codes with offsets and, of a severe return, the IMSI, the start and
the call reference of the call event. There are few of them, so they are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from ingestion.formats import tap_tags
from ingestion.formats.ber_stream import (
    BLOCK_OCTETS,
    BLOCK_RECORDS,
    Block,
    Damaged,
    Layout,
    NestedReader,
    Part,
    application,
    children,
    damaged_table,
    gathered,
    head_parts,
    moment,
    printable,
    sequence_number,
    tag_number,
    tag_octets,
    tail_part,
)
from ingestion.formats.interface import (
    RAW_RECORD_LIMIT,
    FileFacts,
    RawFile,
    UnreadableFileError,
    batch_table,
)
from tollhouse.file_reasons import FileReason

# APPLICATION tag numbers of TD.32 chapter 6; those below 512 are TAP3's.
_RETURN_BATCH, _ACKNOWLEDGEMENT, _RETURNS, _CONTROL, _AUDIT = 534, 535, 536, 537, 541
_KINDS = {538: "rapMissingReturn", 539: "rapFatalReturn", 540: "rapSevereReturn"}
_ACKNOWLEDGED = "rapAcknowledgement"
_CREATED = (526, 516)  # of a return batch, of an acknowledgement
_RETURN_COUNT, _SEQUENCE = 528, 181
_IMSI, _CALL_REFERENCE = 129, 45
_ERROR_DETAIL, _ERROR_CODE, _ITEM_OFFSET = 521, 519, 524
_NAMES = {
    _ERROR_CODE: "errorCode",
    _ITEM_OFFSET: "itemOffset",
    tap_tags.FILE_SEQUENCE: "fileSequenceNumber",
    532: "startMissingSeqNumber",
    518: "endMissingSeqNumber",
    529: "severeReturnValue",
}
_NUMBERS = (_ERROR_CODE, _ITEM_OFFSET, 529)
_STARTS = (44, 74, 88, 300, 447, 384)  # elements of TAP3 call events that hold their start
_ACK_HEADER = (196, 182, _SEQUENCE)
_MAX_DEPTH = 32

_BATCH = Layout(
    what="RAP",
    roots=tap_tags.constructed(_RETURN_BATCH),
    lists=tap_tags.constructed(_RETURNS),
    parts=tap_tags.constructed(_CONTROL, _AUDIT),
    records=tap_tags.constructed(*_KINDS),
    fields={"none": (0, 0)},
    descend=frozenset(),
    known=frozenset(),
)
_ACK = Layout(
    what="RAP Acknowledgement",
    roots=tap_tags.constructed(_ACKNOWLEDGEMENT),
    lists=frozenset(),
    parts=tap_tags.primitive(*_ACK_HEADER, 110) | tap_tags.constructed(515, 516, 551),
    records=frozenset(),
    fields={"none": (0, 0)},
    descend=frozenset(),
    known=frozenset(),
)


@dataclass(frozen=True)
class RapFormat:
    """Format `rap`; the block sizes are for tests."""

    name: str = "rap"
    numbers_files = True
    block_octets: int = BLOCK_OCTETS
    block_records: int = BLOCK_RECORDS

    def recognises(self, head: bytes) -> bool:
        """Whether the file is a Return Batch or an Acknowledgement with a sender in its header."""
        return _header(head) is not None

    def read_facts(self, file: RawFile) -> FileFacts:
        """Sender, sequence number and creation from the header, the count from the audit control.

        Raises:
            UnreadableFileError: the file begins with no header of RAP.
        """
        header = _header(file.head)
        if header is None:
            raise UnreadableFileError("no_sender_header", name=file.name, what="RAP")
        is_batch = _root(file.head) in _BATCH.roots
        audit = tail_part(file.tail, application(_AUDIT, is_constructed=True)) if is_batch else None
        count = None if is_batch else 1
        if audit is not None:
            found = next((value for n, value in _flat(audit) if n == _RETURN_COUNT), b"")
            count = int.from_bytes(found, "big") if 0 < len(found) <= 3 else None
        times: dict[int, bytes] = {}
        for number in _CREATED:
            times |= dict(_flat(header.get(number, b"")))
        return FileFacts(
            source_id=printable(header[tap_tags.SENDER]),
            sequence_number=sequence_number(header.get(_SEQUENCE)),
            created_at=moment(times.get(tap_tags.LOCAL_TIME), times.get(tap_tags.UTC_OFFSET)),
            declared_record_count=count,
            lacks=FileReason("lacks_audit") if is_batch and audit is None else None,
        )

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every return, or the acknowledgement, as a row.

        Raises:
            UnreadableFileError: the file does not begin with an element of RAP.
        """
        return gathered(self._tables(file))

    def _tables(self, file: RawFile) -> Iterator[pa.Table]:
        is_ack = _root(file.head) in _ACK.roots
        acknowledged: list[str] = []
        size = 0
        damaged: list[Damaged] = []
        with file.open_stream() as stream:
            for item in NestedReader(
                stream,
                _ACK if is_ack else _BATCH,
                file.name,
                block_octets=self.block_octets,
                block_records=self.block_records,
            ):
                if isinstance(item, Damaged):
                    if is_ack:
                        damaged.append(item)
                    else:
                        yield damaged_table(item)
                elif isinstance(item, Block):
                    yield _returns(item)
                elif not damaged:
                    size += item.length
                    acknowledged += [
                        f"rapFileSequenceNumber={printable(value)}"
                        for number, value in _flat(item.content)
                        if number == _SEQUENCE
                    ]
        if is_ack:
            yield _table([0], [size], [_ACKNOWLEDGED], [" ".join(acknowledged) or None])
        for item in damaged:
            yield damaged_table(item)


def _returns(block: Block) -> pa.Table:
    kinds = {application(number, is_constructed=True): name for number, name in _KINDS.items()}
    tree = block.tree
    texts = [
        _described(block.octets[start:end].tobytes())
        for start, end in zip(tree.starts.tolist(), tree.ends.tolist(), strict=True)
    ]
    names = [kinds[tag] for tag in tree.tags.tolist()]
    return _table(block.offsets.tolist(), block.lengths.tolist(), names, texts)


def _table(
    offsets: list[int], lengths: list[int], kinds: list[str], texts: list[str | None]
) -> pa.Table:
    return batch_table(
        offsets=pa.array(offsets),
        lengths=pa.array(lengths),
        raw_records=pa.array(texts, pa.string()),
        fields={"record_type": pa.array(kinds)},
    )


def _described(content: bytes) -> str | None:
    """What a return says, as `name=value` words; repeated error details follow each other."""
    words: list[str] = []
    is_start = False
    has_imsi = False
    for number, value in _flat(content):
        if number in _STARTS:
            is_start = not any(word.startswith("started=") for word in words)
        elif number in _NUMBERS:
            words.append(f"{_NAMES[number]}={int.from_bytes(value[:8], 'big', signed=True)}")
        elif number in _NAMES:
            words.append(f"{_NAMES[number]}={printable(value) or value.hex()}")
        elif number == tap_tags.LOCAL_TIME and is_start:
            words.append(f"started={printable(value) or value.hex()}")
            is_start = False
        elif number == _IMSI and not has_imsi:
            words.append(f"imsi={value.hex().rstrip('f')}")
            has_imsi = True
        elif number == _CALL_REFERENCE:
            words.append(f"callReference={value.hex()}")
    return " ".join(words)[:RAW_RECORD_LIMIT] or None


def _flat(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag number and value of every element, holders before what they hold."""
    yield from _flattened(content, 0, len(content), 0)


def _flattened(content: bytes, start: int, end: int, depth: int) -> Iterator[tuple[int, bytes]]:
    if depth > _MAX_DEPTH:
        return
    for tag, value, stop in children(content, start, end):
        yield tag_number(tag), content[value:stop]
        if tag_octets(tag)[0] & 0x20:
            yield from _flattened(content, value, stop, depth + 1)


def _root(head: bytes) -> int:
    return int.from_bytes(head[:3], "big")


def _header(head: bytes) -> dict[int, bytes] | None:
    """Values of the header's elements by number; None if this is no RAP file."""
    parts: list[Part] = list(head_parts(head, _ACK))[1:]
    if not parts:
        parts = [
            part
            for part in head_parts(head, _BATCH)
            if part.tag == application(_CONTROL, is_constructed=True)
        ][:1]
    header: dict[int, bytes] = {}
    for part in parts:
        for number, value in _flat(part.content):
            header.setdefault(number, value)
    return header if printable(header.get(tap_tags.SENDER, b"")) is not None else None
