"""Flow exports: NetFlow v5 and v9 and IPFIX (RFC 3954, RFC 7011).

Two forms of files are read: captures (classic pcap) of the UDP datagrams that routers sent, and
IPFIX files (RFC 5655), which are IPFIX messages one behind the other. The `netflume` library takes
messages apart and keeps the templates that later messages need; `dpkt` takes packets apart.

A flow names addresses and no subscriber, so it is never rated: rows have `record_type` `flow` and
no service. Octets are uplink, those of the reverse direction (RFC 5103) downlink; counts
of a sampling exporter are multiplied by its sampling interval. `call_reference` is exporter, source
address and port, destination address and port, protocol and start, joined by `|`, which is what a
flow is looked for by. Input and output interface stand as trunk groups.

Datagrams other than UDP are passed over. What is no export message, and a data set whose template
did not come before it, is a row with `_decode_error`: the capture began too late, or lost packets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from ipaddress import ip_address
from typing import Any

import dpkt  # type: ignore[import-untyped]  # it has no types
import pyarrow as pa
from netflume import Decoder, Flow

from ingestion.formats.interface import (
    MALFORMED,
    RAW_RECORD_LIMIT,
    TRUNCATED,
    FileFacts,
    RawFile,
    UnreadableFileError,
)
from ingestion.formats.row_batch import RowBatch
from tollhouse.file_reasons import FileReason

READ_OCTETS = 2**20
BATCH_FLOWS = 32_768
LARGEST_PACKET = 2**18  # octets of a captured packet; more is garbage
SEARCH_WINDOW = 2**20  # how far behind damaged octets the next packet or message is looked for
FLOW = "flow"

_CAPTURE_HEADS = {  # first octets of a pcap file -> byte order, parts of a second
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}
_CAPTURE_HEAD, _PACKET_HEAD = 24, 16
_ETHERNET, _COOKED, _LOOPBACK, _RAW_LINKS = 1, 113, 0, (12, 14, 101, 228, 229)
_IPFIX, _IPFIX_HEAD = 10, 16
_EARLIEST, _LATEST = 946_684_800, 4_102_444_800  # the years 2000 to 2099
_NEAR = 30 * 86_400  # seconds between neighbouring packets; more is garbage
_V5_HEAD, _V5_FLOW = 24, 48
_V9_HEAD, _FIRST_DATA_SET = 20, 256
_COLUMNS = (
    "record_type", "started_local", "utc_offset_minutes", "duration_seconds", "uplink_octets",
    "downlink_octets", "trunk_group_in", "trunk_group_out", "call_reference",
)  # fmt: skip
_REVERSE_OCTETS = ("e29305.1", "e29305.85")  # RFC 5103 reverse octet counts


@dataclass(frozen=True)
class _Message:
    """An export message: where it stands in the file, and who sent it."""

    offset: int
    length: int
    content: bytes
    exporter: str


@dataclass(frozen=True)
class _Damaged:
    offset: int
    length: int
    content: bytes
    code: str
    why: FileReason


@dataclass(frozen=True)
class NetflowFormat:
    """Format `netflow`: captures of NetFlow v5, v9 and IPFIX; the block size is for tests."""

    name: str = "netflow"
    numbers_files = False
    block_octets: int = READ_OCTETS

    def recognises(self, head: bytes) -> bool:
        """Whether the file is a capture whose first UDP datagram is an export message."""
        if head[:4] not in _CAPTURE_HEADS:
            return False
        for item in _packets(_Window(_of_bytes(head), READ_OCTETS), is_head=True):
            if isinstance(item, _Message):
                return _is_export(item.content)
        return False

    def read_facts(self, file: RawFile) -> FileFacts:
        """When the first packet was captured.

        Raises:
            UnreadableFileError: the file is no such capture.
        """
        if not self.recognises(file.head):
            raise UnreadableFileError("no_capture", name=file.name)
        order, _ = _CAPTURE_HEADS[file.head[:4]]
        (seconds,) = struct.unpack_from(order + "I", file.head, _CAPTURE_HEAD)
        return FileFacts(created_at=datetime.fromtimestamp(seconds, UTC))

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every flow as a row.

        Raises:
            UnreadableFileError: the file is no capture.
        """
        if file.head[:4] not in _CAPTURE_HEADS or file.size < _CAPTURE_HEAD:
            raise UnreadableFileError("no_capture", name=file.name)
        with file.open_stream() as stream:
            window = _Window(stream.read, self.block_octets)
            yield from _tables(_packets(window, is_head=False), file.timezone)


@dataclass(frozen=True)
class IpfixFormat:
    """Format `ipfix`: IPFIX messages in a file (RFC 5655); the block size is for tests."""

    name: str = "ipfix"
    numbers_files = False
    block_octets: int = READ_OCTETS

    def recognises(self, head: bytes) -> bool:
        """Whether the file begins with an IPFIX message of sets, followed by another or the end."""
        length = _message_length(head, 0)
        if length is None or (length <= len(head) and not _is_export(head[:length])):
            return False
        behind = head[length : length + _IPFIX_HEAD]
        return len(behind) < _IPFIX_HEAD or _message_length(head, length) is not None

    def read_facts(self, file: RawFile) -> FileFacts:
        """When the first message was exported.

        Raises:
            UnreadableFileError: the file begins with no IPFIX message.
        """
        if not self.recognises(file.head):
            raise UnreadableFileError("no_ipfix", name=file.name)
        (seconds,) = struct.unpack_from("!I", file.head, 4)
        return FileFacts(created_at=datetime.fromtimestamp(seconds, UTC))

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every flow as a row.

        Raises:
            UnreadableFileError: the file begins with no IPFIX message.
        """
        if _message_length(file.head, 0) is None:
            raise UnreadableFileError("no_ipfix", name=file.name)
        with file.open_stream() as stream:
            yield from _tables(_messages(_Window(stream.read, self.block_octets)), file.timezone)


def _of_bytes(content: bytes) -> Callable[[int], bytes]:
    parts = iter((content, b""))
    return lambda _: next(parts, b"")


class _Window:
    """A stretch of a stream: octets from `at` on are not used up; `at` is octet `base` of the file.

    Octets before it are let go when more are read.
    """

    def __init__(self, read: Callable[[int], bytes], step: int) -> None:
        self._read = read
        self._step = step
        self.content = b""
        self.at = 0
        self.base = 0
        self.is_ended = False

    @property
    def size(self) -> int:
        """Octets at hand."""
        return len(self.content) - self.at

    def need(self, octets: int) -> bool:
        """Whether there are as many octets, after reading on."""
        if self.size >= octets or self.is_ended:
            return self.size >= octets
        parts = [self.content[self.at :]]
        size = self.size
        while size < octets + self._step and not self.is_ended:
            part = self._read(self._step)
            self.is_ended = not part
            parts.append(part)
            size += len(part)
        self.content, self.at = b"".join(parts), 0
        return size >= octets

    def use(self, octets: int) -> bytes:
        """Take the first octets away."""
        taken = self.content[self.at : self.at + octets]
        self.at += len(taken)
        self.base += len(taken)
        return taken


def _packets(window: _Window, *, is_head: bool) -> Iterator[_Message | _Damaged]:
    """The UDP datagrams of a capture and what could not be read; all of them if `is_head`."""
    window.need(_CAPTURE_HEAD)
    order, parts = _CAPTURE_HEADS[window.content[:4]]
    if window.size < _CAPTURE_HEAD:
        return
    (link,) = struct.unpack_from(order + "I", window.content, 20)
    window.use(_CAPTURE_HEAD)
    head = struct.Struct(order + "IIII")
    last: int | None = None
    while window.need(_PACKET_HEAD + LARGEST_PACKET) or window.size:
        length = _packet_length(window.content, window.at, head, parts, last)
        if length is not None and length <= window.size:
            last = head.unpack_from(window.content, window.at)[0]
            base = window.base
            item = _datagram(window.use(length), base, link & 0xFFFF)
            if item is not None:
                yield item
        elif is_head:
            return
        else:
            why = FileReason("no_packet")
            if length is not None:
                octets = str(length - window.size)
                why = FileReason("file_ends_before", {"octets": octets})
            window.need(SEARCH_WINDOW + _PACKET_HEAD + LARGEST_PACKET)
            found = _next_packet(window.content[window.at :], head, parts, last)
            end = min(window.size, SEARCH_WINDOW) if found is None else found
            is_cut = length is not None and end == window.size
            code = TRUNCATED if is_cut else MALFORMED
            base = window.base
            yield _Damaged(base, end, window.use(end), code, why)


def _packet_length(
    content: bytes, at: int, head: struct.Struct, parts: int, last: int | None
) -> int | None:
    """Octets of a packet and its head, None if there is no likely head."""
    if len(content) - at < _PACKET_HEAD:
        return None
    seconds, fraction, captured, original = head.unpack_from(content, at)
    is_likely = (
        _EARLIEST <= seconds < _LATEST
        and fraction < parts
        and 0 < captured <= LARGEST_PACKET
        and captured <= original <= LARGEST_PACKET
        and (last is None or abs(seconds - last) <= _NEAR)
    )
    return _PACKET_HEAD + captured if is_likely else None


def _next_packet(content: bytes, head: struct.Struct, parts: int, last: int | None) -> int | None:
    """Where the next packet begins that is followed by another or the end."""
    for at in range(1, min(len(content) - _PACKET_HEAD, SEARCH_WINDOW)):
        length = _packet_length(content, at, head, parts, last)
        if length is None:
            continue
        end = at + length
        if end == len(content) or _packet_length(content, end, head, parts, last) is not None:
            return at
    return None


def _datagram(packet: bytes, offset: int, link: int) -> _Message | _Damaged | None:
    """The UDP datagram in a captured packet; None if there is none."""

    def damaged(why: FileReason) -> _Damaged:
        return _Damaged(offset, len(packet), packet, MALFORMED, why)

    try:
        inner = _network_layer(packet[_PACKET_HEAD:], link)
        udp = getattr(inner, "data", None)
        if isinstance(inner, dpkt.ip.IP) and (inner.mf or inner.offset):
            return damaged(FileReason("fragment"))
        if not isinstance(inner, dpkt.ip.IP | dpkt.ip6.IP6) or not isinstance(udp, dpkt.udp.UDP):
            return None
        content = bytes(udp.data)[: max(udp.ulen - 8, 0)]
        exporter = str(ip_address(inner.src))
    except Exception as error:  # whatever a library makes of garbage: this packet is lost
        detail = f"{type(error).__name__}: {error}"
        return damaged(FileReason("packet_undecodable", {"detail": detail}))
    if len(content) != udp.ulen - 8:
        return damaged(FileReason("datagram_cut"))
    return _Message(offset, len(packet), content, exporter)


def _network_layer(body: bytes, link: int) -> Any:
    """The packet inside a frame.

    Raises:
        ValueError: the capture is of a link that cannot be read.
    """
    if link == _ETHERNET:
        return dpkt.ethernet.Ethernet(body).data
    if link == _COOKED:
        return dpkt.sll.SLL(body).data
    if link == _LOOPBACK:
        return dpkt.loopback.Loopback(body).data
    if link in _RAW_LINKS:
        return (dpkt.ip6.IP6 if body[:1] >= b"\x60" else dpkt.ip.IP)(body)
    raise ValueError(f"link type {link} is none that can be read; capture on Ethernet")


def _message_length(content: bytes, at: int) -> int | None:
    """Octets of the IPFIX message at a position, None if there is no likely head of one."""
    if len(content) - at < _IPFIX_HEAD:
        return None
    version, length, seconds = struct.unpack_from("!HHI", content, at)
    is_likely = version == _IPFIX and length > _IPFIX_HEAD and _EARLIEST <= seconds < _LATEST
    return length if is_likely else None


def _messages(window: _Window) -> Iterator[_Message | _Damaged]:
    """The messages of an IPFIX file and what could not be read."""
    while window.need(2**16 + _IPFIX_HEAD) or window.size:
        base = window.base
        length = _message_length(window.content, window.at)
        if length is not None and length <= window.size:
            content = window.content[window.at : window.at + length]
            if _is_export(content):
                yield _Message(base, length, window.use(length), "")
                continue
        window.need(SEARCH_WINDOW + 2**16 + _IPFIX_HEAD)
        found = _next_message(window.content[window.at :])
        end = min(window.size, SEARCH_WINDOW) if found is None else found
        is_cut = length is not None and length > window.size and end == window.size
        why = FileReason("no_message")
        if is_cut:
            why = FileReason("file_ends_before", {"octets": str((length or 0) - end)})
        yield _Damaged(base, end, window.use(end), TRUNCATED if is_cut else MALFORMED, why)


def _next_message(content: bytes) -> int | None:
    at = 1
    while (at := content.find(b"\x00\x0a", at, SEARCH_WINDOW)) >= 0:
        length = _message_length(content, at)
        if length is not None and _is_export(content[at : at + length]):
            return at
        at += 1
    return None


def _is_export(content: bytes) -> bool:
    """Whether these octets are a whole export message of one of the three versions."""
    if len(content) < _IPFIX_HEAD + 4:
        return False
    version, number = struct.unpack_from("!HH", content)
    if version == 5:
        is_whole = 0 < number <= 30 and len(content) == _V5_HEAD + _V5_FLOW * number
    elif version == 9:
        is_whole = _has_sets(content, _V9_HEAD, (0, 1))
    else:
        is_whole = version == _IPFIX and number == len(content)
        is_whole = is_whole and _has_sets(content, _IPFIX_HEAD, (2, 3))
    return bool(is_whole)


def _has_sets(content: bytes, at: int, templates: tuple[int, int]) -> bool:
    """Whether sets fill the message from a position on."""
    while at + 4 <= len(content):
        number, length = struct.unpack_from("!HH", content, at)
        if length < 4 or not (number in templates or number >= _FIRST_DATA_SET):
            return False
        at += length
    return at == len(content)


def _tables(items: Iterator[_Message | _Damaged], zone: tzinfo) -> Iterator[pa.Table]:
    new_decoder: Any = Decoder  # its methods have no types
    decoder = new_decoder(track_sequence=False)
    rows = RowBatch(_COLUMNS)
    for item in items:
        if isinstance(item, _Damaged):
            _refuse(rows, item)
        else:
            _flows(rows, decoder, item, zone)
        if len(rows) >= BATCH_FLOWS:
            yield rows.table()
            rows = RowBatch(_COLUMNS)
    if len(rows):
        yield rows.table()


def _refuse(rows: RowBatch, damaged: _Damaged) -> None:
    rows.add(
        damaged.offset, damaged.length, {}, error=damaged.code,
        detail=FileReason("record_at", {"at": str(damaged.offset), "why": damaged.why}).kept(),
        raw_record=damaged.content[:RAW_RECORD_LIMIT].hex(),
    )  # fmt: skip


def _flows(rows: RowBatch, decoder: Any, message: _Message, zone: tzinfo) -> None:
    """The flows of a message, and a row for what of it could not be read."""

    def refuse(why: FileReason) -> None:
        _refuse(rows, _Damaged(message.offset, message.length, message.content, MALFORMED, why))

    if not _is_export(message.content):
        refuse(FileReason("no_export"))
        return
    before = decoder.stats["deferred"], decoder.stats["truncated"]
    decoded = decoder.decode(message.content, message.exporter)
    reasons = [str(event.detail) for event in decoder.take_events() if hasattr(event, "detail")]
    if decoded is None:
        refuse(FileReason("message_undecodable", {"detail": "; ".join(reasons) or "–"}))
        return
    # The clock of the library's guard against wrapped uptimes: the message's own.
    exported = float(decoded.header.get("unix_secs") or 0)
    new_flow: Any = Flow.from_record
    for record in decoded.flows:
        try:
            flow = new_flow(record, decoded.header, decoded.sampling_rate, now=exported)
            values = _flow(flow, message.exporter, zone)
        except (ArithmeticError, TypeError, ValueError) as error:
            # A template of garbage lengths: numbers of any size, texts where numbers belong.
            refuse(FileReason("odd_flow", {"detail": type(error).__name__}))
        else:
            rows.add(message.offset, message.length, values)
    if decoder.stats["deferred"] > before[0]:
        refuse(FileReason("no_template"))
    elif decoder.stats["truncated"] > before[1]:
        refuse(FileReason("message_cut"))


def _flow(flow: Any, exporter: str, zone: tzinfo) -> dict[str, object]:
    reverse = next((flow.get(name) for name in _REVERSE_OCTETS if flow.get(name) is not None), None)
    values: dict[str, object] = {
        "record_type": FLOW,
        "uplink_octets": _counted(flow.octets, flow.sampling_rate),
        "downlink_octets": _counted(reverse, flow.sampling_rate),
        "duration_seconds": _counted(flow.duration),
        "trunk_group_in": None if flow.in_if is None else str(flow.in_if),
        "trunk_group_out": None if flow.out_if is None else str(flow.out_if),
    }
    start = ""
    if _EARLIEST <= flow.start < _LATEST:
        started = datetime.fromtimestamp(round(flow.start, 3), UTC)
        start = started.isoformat(timespec="milliseconds")
        local = started.astimezone(zone)
        values["started_local"] = local.replace(tzinfo=None)
        values["utc_offset_minutes"] = (
            int((local.utcoffset() or local - local).total_seconds()) // 60
        )
    parts = (
        exporter, flow.src_addr, flow.src_port, flow.dst_addr, flow.dst_port, flow.proto, start,
    )  # fmt: skip
    values["call_reference"] = "|".join("" if part is None else str(part) for part in parts)
    return values


def _counted(value: object, times: int = 1) -> int | None:
    """A whole number that fits the column."""
    if not isinstance(value, int | float):
        return None
    return int(value) * times if 0 <= value < 2**63 // times else None
