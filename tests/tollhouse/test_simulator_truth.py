"""The truth file against a plain reading of the raw files, record by record.

Nothing of the simulator is used to read: the few lines here are an independent, slow mediation.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tollhouse.settings import Settings
from tollhouse.simulator import Truth, delivery, simulate

SWITCH_FIELDS = [
    "type", "service", "direction", "msisdn", "imsi", "imei", "other", "started", "offset",
    "duration", "plmn", "cell", "trunk_in", "trunk_out", "reference", "part", "is_last", "cause",
]  # fmt: skip
ROAMING_FIELDS = [
    "reference", "service", "direction", "imsi", "msisdn", "other", "started", "offset",
    "duration", "uplink", "downlink", "plmn",
]  # fmt: skip
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass
class RawFile:
    file_id: str
    received: datetime
    sequence: int = 0
    created: datetime = NEVER
    declared: int | None = None
    records: list[dict[str, str] | str] = field(default_factory=list)  # or the decode error


def moment(local: str, offset: str) -> datetime:
    shift = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    shift = -shift if offset[0] == "-" else shift
    return datetime.strptime(local, "%Y%m%d%H%M%S").replace(tzinfo=UTC) - shift


def text_line(line: str, delimiter: str, names: list[str]) -> dict[str, str] | str:
    values = line.split(delimiter)
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else "field_count"


def read_switch(path: Path, file: RawFile) -> None:
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    for line in lines:
        kind = line.split("|", 1)[0]
        if kind == "HDR":
            _, _, sequence, created, offset = line.split("|")
            file.sequence, file.created = int(sequence), moment(created, offset)
        elif kind == "TRL":
            file.declared = int(line.split("|")[1])
        elif kind == "CDR":
            file.records.append(text_line(line, "|", SWITCH_FIELDS))
        else:
            file.records.append("malformed")
    if rest:
        file.records.append("truncated")


def read_roaming(path: Path, file: RawFile) -> None:
    first, _, *lines = path.read_text(encoding="utf-8").splitlines()
    _, sequence, created, offset = first.split(",")
    file.sequence, file.created = int(sequence), moment(created, offset)
    for line in lines:
        if line.startswith("#END"):
            file.declared = int(line.split(",")[1])
        else:
            file.records.append(text_line(line, ",", ROAMING_FIELDS))


def elements(data: bytes) -> list[tuple[bytes, bytes]]:
    """Tags and contents of a run of BER elements; ValueError where a length runs over the end."""
    found, at = [], 0
    while at < len(data):
        end = at + 1
        if data[at] & 0x1F == 0x1F:
            while data[end] & 0x80:
                end += 1
            end += 1
        tag, length, end = data[at:end], data[end], end + 1
        if length & 0x80:
            octets = length & 0x7F
            length, end = int.from_bytes(data[end : end + octets]), end + octets
        if end + length > len(data):
            raise ValueError("a length runs over the end")
        found.append((tag, data[end : end + length]))
        at = end + length
    return found


def swapped(data: bytes) -> str:
    return "".join(f"{byte & 15:x}{byte >> 4:x}" for byte in data).rstrip("f")


def packet_record(data: bytes) -> dict[str, str] | str:
    try:
        [(tag, content)] = elements(data)
        fields = dict(elements(content))
        [(_, condition)] = elements(fields[b"\xbf\x22"])
        volumes = dict(elements(condition))
    except ValueError:
        return "malformed"
    assert tag == b"\xbf\x4f"
    opened = fields[b"\x8d"]
    return {
        "service": "data",
        "gateway": fields[b"\xa4"].hex(),
        "imsi": swapped(fields[b"\x83"]),
        "msisdn": swapped(fields[b"\x96"][1:]),
        "imei": swapped(fields[b"\x9d"]),
        "reference": str(int.from_bytes(fields[b"\x85"])),
        "part": str(int.from_bytes(fields.get(b"\x91", b"\0"))),
        "cause": str(int.from_bytes(fields[b"\x8f"])),
        "started": "20" + opened[:6].hex(),
        "offset": chr(opened[6]) + opened[7:].hex(),
        "duration": str(int.from_bytes(fields[b"\x8e"], signed=True)),
        "uplink": str(int.from_bytes(volumes[b"\x8c"], signed=True)),
        "downlink": str(int.from_bytes(volumes[b"\x8d"], signed=True)),
    }


def header_moment(bits: int, year: int) -> datetime:
    sign = "+" if bits >> 11 & 1 else "-"
    local = f"{year}{bits >> 28:02d}{bits >> 23 & 31:02d}{bits >> 18 & 31:02d}{bits >> 12 & 63:02d}"
    return moment(f"{local}00", f"{sign}{bits >> 6 & 31:02d}{bits & 63:02d}")


def read_packet(path: Path, file: RawFile) -> None:
    data = path.read_bytes()

    def number(begin: int, end: int) -> int:
        return int.from_bytes(data[begin:end])

    header_length = number(4, 8)
    file.declared, file.sequence = number(18, 22), number(22, 26)
    file.created = moment(path.name.split(".")[1][:8] + path.name[-9:-5] + "00", path.name[-5:])
    opened, appended = header_moment(number(10, 14), 2026), header_moment(number(14, 18), 2026)
    assert opened <= appended <= file.created
    assert header_length == 52
    assert data[41:47] == bytes([255, 255, 10, int(path.name[4:6]), 0, 1])
    at = header_length
    while at < len(data):
        length = number(at, at + 2)
        assert data[at + 2 : at + 4] == bytes([0xAC, 0x27])  # Release 8, BER, TS 32.251
        content = data[at + 4 : at + 4 + length]
        file.records.append("truncated" if len(content) < length else packet_record(content))
        at += 4 + length
    assert number(0, 4) == at  # the length a truncated file should have had


@dataclass
class Carrier:
    settings: Settings
    truth: Truth
    files: list[RawFile]
    copies: dict[str, str]


@pytest.fixture(
    scope="module",
    params=[(100, 50_000), (20, 50_000), (40, 40)],
    ids=["100 subscribers", "20 subscribers", "many small files"],
)
def carrier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Carrier:
    home = tmp_path_factory.mktemp("carrier")
    subscribers, records_per_file = request.param
    settings = Settings(home=home, subscribers=subscribers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "RECORDS_PER_FILE", records_per_file)
        truth = simulate(settings)
    files, copies, seen = [], {}, {}
    paths = [path for path in (home / "landing").rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: (path.stat().st_mtime, path.name)):
        source = path.parent.name
        file_id = f"{source}/{path.name}"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in seen:
            copies[file_id] = seen[digest]
            continue
        seen[digest] = file_id
        file = RawFile(file_id, datetime.fromtimestamp(path.stat().st_mtime, UTC))
        {"MSC": read_switch, "PGW": read_packet, "DCH": read_roaming}[source[:3]](path, file)
        files.append(file)
    files.sort(key=lambda file: (file.received, file.file_id))
    return Carrier(settings, truth, files, copies)


def is_possible(started: str, offset: str, *, before: datetime) -> bool:
    try:
        return moment(started, offset) <= before
    except ValueError:
        return False


def reject_reason(record: dict[str, str], received: datetime) -> str | None:
    if not (record["msisdn"].isdigit() and 8 <= len(record["msisdn"]) <= 15):
        return "invalid_msisdn"
    if not is_possible(record["started"], record["offset"], before=received):
        return "invalid_time"
    if not record["duration"].isdigit() or int(record["duration"]) > 86_400:
        return "invalid_duration"
    if record["service"] not in ("voice", "sms", "data"):
        return "unknown_service"
    dials = record["service"] != "data" and record["direction"] == "mo"
    if dials and not record["other"].removeprefix("+").isdigit():
        return "invalid_other_party"
    return None


def filter_reason(record: dict[str, str]) -> str | None:
    if record["service"] != "voice":
        return None
    if record["msisdn"].startswith("8617090000"):
        return "test_number"
    if record["other"] in ("110", "119", "120", "122"):
        return "emergency"
    return "unanswered" if record["duration"] == "0" else None


def identity(file: RawFile, record: dict[str, str]) -> tuple[str, ...]:
    source = file.file_id.split("/")[0]
    if source.startswith("MSC"):
        names = ("msisdn", "reference", "part", "service", "direction")
        return (source, *(record[name] for name in names))
    if source.startswith("PGW"):
        return tuple(record[name] for name in ("gateway", "reference", "part", "msisdn"))
    return (record["reference"], record["plmn"])


def mediated(carrier: Carrier) -> list[tuple[RawFile, dict[str, str] | str, str, str]]:
    """Every record with its outcome and reason, in order of arrival."""
    result, seen = [], set()
    for file in carrier.files:
        for record in file.records:
            if isinstance(record, str):
                result.append((file, record, "rejected", record))
                continue
            reason = reject_reason(record, file.received)
            if reason:
                result.append((file, record, "rejected", reason))
                continue
            key = identity(file, record)
            if key in seen:
                result.append((file, record, "duplicate", ""))
                continue
            seen.add(key)
            skipped = filter_reason(record)
            if skipped:
                result.append((file, record, "filtered", skipped))
            else:
                is_later_part = int(record.get("part", "0")) > 1
                result.append((file, record, "merged" if is_later_part else "standard", ""))
    return result


@pytest.fixture(scope="module")
def outcomes(carrier: Carrier) -> list[tuple[RawFile, dict[str, str] | str, str, str]]:
    return mediated(carrier)


Outcomes = list[tuple[RawFile, dict[str, str] | str, str, str]]
OUTCOME_NAMES = ("standard", "merged", "duplicate", "rejected", "filtered")


def test_outcomes_of_every_file_are_as_the_truth_states(
    carrier: Carrier, outcomes: Outcomes
) -> None:
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for file, _, outcome, _ in outcomes:
        counted[file.file_id][outcome] += 1
    expected = {
        file_id: {name: count for name, count in row.items() if name != "raw" and count}
        for file_id, row in carrier.truth.files.items()
    }
    assert {file_id: dict(row) for file_id, row in counted.items()} == expected


def test_the_five_outcomes_add_up_to_the_raw_records(carrier: Carrier) -> None:
    for row in carrier.truth.files.values():
        assert row["raw"] == sum(row[name] for name in OUTCOME_NAMES)
    totals = carrier.truth.totals
    for name in OUTCOME_NAMES:
        assert totals[name] == sum(row[name] for row in carrier.truth.files.values())
    assert totals["raw_records"] == sum(totals[name] for name in OUTCOME_NAMES)


def test_reasons_are_as_the_truth_states(carrier: Carrier, outcomes: Outcomes) -> None:
    rejected = Counter(reason for *_, outcome, reason in outcomes if outcome == "rejected")
    filtered = Counter(reason for *_, outcome, reason in outcomes if outcome == "filtered")
    assert dict(rejected) == carrier.truth.totals["rejected_by_reason"]
    assert dict(filtered) == carrier.truth.totals["filtered_by_reason"]


def test_usage_totals_are_as_the_truth_states(carrier: Carrier, outcomes: Outcomes) -> None:
    services: Counter[str] = Counter()
    seconds = octets = 0
    for _, record, outcome, _ in outcomes:
        if outcome in ("standard", "merged"):
            assert isinstance(record, dict)
            services[record["service"]] += outcome == "standard"
            octets += int(record.get("uplink", "0")) + int(record.get("downlink", "0"))
            seconds += int(record["duration"]) if record["service"] == "voice" else 0
    totals = carrier.truth.totals
    assert dict(services) == totals["standard_by_service"]
    assert (seconds, octets) == (totals["voice_seconds"], totals["octets"])


def test_long_calls_are_as_the_truth_states(carrier: Carrier, outcomes: Outcomes) -> None:
    parts: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for file, record, outcome, _ in outcomes:
        if outcome not in ("standard", "merged") or not isinstance(record, dict):
            continue
        if record.get("part", "0") != "0":
            parts[file.file_id[:6], record["msisdn"], record["reference"]].append(record)
    complete = 0
    for (source, *_), records in parts.items():
        records.sort(key=lambda record: int(record["part"]))
        assert [int(record["part"]) for record in records] == list(range(1, len(records) + 1))
        assert 2 <= len(records) <= 5
        for one, two in itertools.pairwise(records):
            ends = moment(one["started"], one["offset"]) + timedelta(seconds=int(one["duration"]))
            assert ends == moment(two["started"], two["offset"])
        last = records[-1]
        complete += last["is_last"] == "1" if source[0] == "M" else last["cause"] == "0"
    assert len(parts) == carrier.truth.totals["long_calls"]
    assert len(parts) - complete == carrier.truth.totals["incomplete_long_calls"]


def test_served_numbers_belong_to_a_subscription_in_force_or_are_counted_unknown(
    carrier: Carrier, outcomes: Outcomes
) -> None:
    path = carrier.settings.seed_dir / "operational" / "crm.subscription.parquet"
    owners = {row["msisdn"]: row for row in pq.read_table(path).to_pylist()}
    begins, ends = datetime(2026, 9, 30, 16, tzinfo=UTC), datetime(2026, 10, 31, 16, tzinfo=UTC)
    unknown = 0
    for _, record, outcome, _ in outcomes:
        if outcome != "standard":
            continue
        assert isinstance(record, dict)
        at = moment(record["started"], record["offset"])
        assert begins <= at < ends
        owner = owners.get(record["msisdn"])
        if owner is None:
            unknown += 1
            continue
        assert owner["imsi"] == record["imsi"]
        assert owner["valid_from"] <= at
        assert owner["valid_to"] is None or at < owner["valid_to"]
    assert unknown == carrier.truth.totals["unknown_subscriber"]


def test_files_carry_the_faults_the_truth_lists(carrier: Carrier) -> None:
    truth = carrier.truth
    assert carrier.copies == truth.faults["duplicate_files"]
    assert truth.totals["files"] == len(carrier.files) + len(carrier.copies)
    late = {
        file.file_id for file in carrier.files if file.received - file.created > timedelta(days=1)
    }
    assert late == set(truth.faults["late_files"])
    for file in carrier.files:
        assert file.received > file.created
        if file.file_id in late:
            assert file.received - file.created >= timedelta(days=3)
    cut = {file.file_id for file in carrier.files if "truncated" in file.records}
    assert cut == set(truth.faults["truncated_files"])
    miscounted = {
        file.file_id
        for file in carrier.files
        if file.declared is not None and file.declared != len(file.records)
    }
    assert miscounted == set(truth.faults["count_mismatch_files"])
    assert truth.totals["late_files"] == len(late)
    assert truth.totals["duplicate_files"] == len(carrier.copies)
    assert truth.totals["count_mismatch_files"] == len(miscounted)


def test_sequence_numbers_miss_only_what_the_truth_lists(carrier: Carrier) -> None:
    numbers: dict[str, list[int]] = defaultdict(list)
    for file in carrier.files:
        numbers[file.file_id.split("/")[0]].append(file.sequence)
    missing = {}
    for source, found in numbers.items():
        assert len(found) == len(set(found))
        gap = sorted(set(range(min(found), max(found) + 1)) - set(found))
        if gap:
            missing[source] = gap
    assert missing == carrier.truth.faults["missing_sequence_numbers"]
    assert sum(len(gap) for gap in missing.values()) == carrier.truth.totals["sequence_gaps"]


def test_imeis_end_with_their_luhn_digit(outcomes: Outcomes) -> None:
    for _, record, _, _ in outcomes:
        if isinstance(record, dict) and record.get("type") == "CDR":
            digits = [int(digit) for digit in reversed(record["imei"])]
            doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
            assert len(digits) == 15
            assert (sum(digits[::2]) + sum(doubled)) % 10 == 0


def test_trunk_groups_stand_only_on_calls_with_other_operators(
    carrier: Carrier, outcomes: Outcomes
) -> None:
    path = carrier.settings.seed_dir / "operational" / "settlement.trunk_group.parquet"
    groups = {row["trunk_group_id"]: row for row in pq.read_table(path).to_pylist()}
    used = Counter()
    for file, record, _, _ in outcomes:
        if not isinstance(record, dict) or record.get("type") != "CDR":
            continue
        for direction, trunk in (("in", record["trunk_in"]), ("out", record["trunk_out"])):
            if trunk:
                assert groups[trunk]["direction"] == direction
                assert groups[trunk]["province_code"] == file.file_id[4:6]
                assert record["service"] in ("voice", "fax")
                assert record["direction"] == ("mt" if direction == "in" else "mo")
                used[groups[trunk]["operator_code"]] += 1
        if record["service"] == "sms":
            assert not record["trunk_in"] + record["trunk_out"]
    assert set(used) == {"CMCC", "CTCC"}
