"""Sessions that are told by several records, or by one record of several things."""

from __future__ import annotations

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

import ingestion
from operational.control.rollbacks import request_rollback
from operational.control.rules import change_rule
from operational.permissions import Principal
from tests.ingestion.conftest import (
    element,
    framed,
    integer,
    packet_file,
    packet_record,
    service,
)
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer
from tollhouse.rollback import plan_rollback
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

pytestmark = pytest.mark.pipeline

OPERATOR = Principal("operator", "Operator", "operator", "00")
RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
SOURCE = {
    "source_id": "CCF-44", "name_zh": "测试", "name_en": "Test", "format": "3gpp_cdr",
    "province_code": "44", "file_name": r"CCF-44_\d{6}\.dat", "sequence_rule": "continuous",
    "late_after_hours": 24,
}  # fmt: skip
CALLER, CALLED, DIVERTED_TO = "8613000000001", "8613000000002", "8613912345678"

# CallEventRecordType, TS 32.298 clause 5.1.3.
S_CSCF, P_CSCF, APPLICATION, TELEPHONY = 63, 64, 69, 83
ORIGINATING, TERMINATING = 0, 1
TIME_LIMIT, END = 3, 0  # causes for closing: the session goes on, or has ended


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    own = tmp_path_factory.mktemp("own")
    (own / "sources.yaml").write_text(json.dumps({"sources": [SOURCE]}), encoding="utf-8")
    made = Settings(home=tmp_path_factory.mktemp("sessions"), sources_dir=own)
    try:
        run_step("prepare", made)
        yield made
    finally:
        EmbeddedServer(made.home).remove()


def mediated(home: Settings, number: int, records: Sequence[bytes]) -> str:
    """The id of a file of these records, after it was mediated."""
    path = home.landing_dir / "CCF-44" / f"CCF-44_{number:06d}.dat"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packet_file([framed(record) for record in records], sequence=number))
    os.utime(path, (RECEIVED.timestamp(), RECEIVED.timestamp()))
    ingestion.collect(home)
    ingestion.land(home)
    run_step("mediate", home)
    return f"CCF-44/{path.name}"


def time(minute: int) -> bytes:
    """A TimeStamp: on 5 October at a minute after eight, +0800."""
    return bytes.fromhex(f"26100508{minute:02d}002b0800")


def ims_record(
    node: int, role: int, charging_identifier: str, *, minutes: tuple[int, int] = (0, 5),
    part: int | None = None, cause: int = END, diverted_by: str | None = None,
) -> bytes:  # fmt: skip
    """What a node writes of the session that CALLER has with CALLED."""
    served = diverted_by or (CALLED if role == TERMINATING else CALLER)
    subscription = element(0, b"\x00") + element(1, served.encode())
    value = (
        element(0, integer(node))
        + element(2, b"INVITE")
        + element(3, integer(role))
        + element(6, element(1, f"tel:+{CALLER}".encode()), constructed=True)
        + element(
            7,
            element(1, f"tel:+{DIVERTED_TO if diverted_by else CALLED}".encode()),
            constructed=True,
        )
        + element(10, time(minutes[0]))
        + element(11, time(minutes[1]))
        + element(12, time(minutes[0]))
        + element(13, time(minutes[1]))
        + (b"" if part is None else element(16, integer(part)))
        + element(17, integer(cause))
        + element(19, charging_identifier.encode())
        + element(31, b"\x31" + bytes([len(subscription)]) + subscription, constructed=True)
    )
    if diverted_by:
        by = element(3, element(1, f"tel:+{diverted_by}".encode()), constructed=True)
        service = element(0, integer(6)) + by
        services = element(0, b"\x31" + bytes([len(service)]) + service, constructed=True)
        value += element(110, services, constructed=True)
    return element(node, value, constructed=True)


def session(charging_identifier: str) -> list[bytes]:
    """Records of all nodes of a call that was diverted, the S-CSCF's first; one is told again."""
    return [
        element(P_CSCF, element(0, integer(P_CSCF)), constructed=True),
        ims_record(S_CSCF, ORIGINATING, charging_identifier),
        ims_record(APPLICATION, ORIGINATING, charging_identifier),
        ims_record(TELEPHONY, ORIGINATING, charging_identifier, minutes=(3, 5), part=2),
        ims_record(
            TELEPHONY, ORIGINATING, charging_identifier, minutes=(0, 3), part=1, cause=TIME_LIMIT
        ),
        ims_record(S_CSCF, TERMINATING, charging_identifier),
        ims_record(TELEPHONY, TERMINATING, charging_identifier, minutes=(0, 1)),
        ims_record(TELEPHONY, ORIGINATING, charging_identifier, diverted_by=CALLED),
        ims_record(TELEPHONY, TERMINATING, charging_identifier, minutes=(0, 1)),
    ]


def outcomes(home: Settings, file_id: str) -> list[tuple[str, str | None]]:
    """Outcome and reason of each record of a file."""
    with open_warehouse(home, "compare") as warehouse:
        return [
            (outcome, reason)
            for outcome, reason in warehouse.rows(
                "select outcome, reason_code from mediation.record_outcome where _file_id = ?"
                " order by _record_number", [file_id],
            )
        ]  # fmt: skip


def calls(home: Settings, file_id: str) -> Counter[tuple[str, str, str, int, int]]:
    """Direction, served and other party, seconds and parts of what is rated of a file."""
    with open_warehouse(home, "compare") as warehouse:
        return Counter(
            warehouse.rows(
                "select direction, served_msisdn, other_party, duration_seconds, partial_count"
                " from mediation.usage where _file_id = ?", [file_id],
            )
        )  # fmt: skip


def test_of_an_ims_session_each_side_is_rated_once_by_the_node_the_rule_names(
    home: Settings,
) -> None:
    filtered = ("filtered", "rated_elsewhere")

    by_telephony = mediated(home, 1, session("icid-1"))
    assert outcomes(home, by_telephony) == [
        ("filtered", "not_rated"), filtered, filtered, ("merged", None), ("standard", None),
        filtered, ("standard", None), ("standard", None), ("duplicate", None),
    ]  # fmt: skip
    assert calls(home, by_telephony) == Counter(
        [
            ("mo", CALLER, CALLED, 300, 2),
            ("mt", CALLED, CALLER, 60, 1),
            ("forwarded", CALLED, DIVERTED_TO, 300, 1),
        ]
    )

    change_rule(
        home, principal=OPERATOR, rule_code="rated_elsewhere", source_id="CCF-44", service=None,
        severity="filter", limit_value=S_CSCF, reason="no telephony server",
    )  # fmt: skip
    by_session_control = mediated(home, 2, session("icid-2"))
    assert outcomes(home, by_session_control) == [
        ("filtered", "not_rated"), ("standard", None), *[filtered] * 3, ("standard", None),
        *[filtered] * 2, ("duplicate", None),
    ]  # fmt: skip
    assert calls(home, by_session_control) == Counter(
        [("mo", CALLER, CALLED, 300, 1), ("mt", CALLED, CALLER, 300, 1)]
    )
    assert outcomes(home, by_telephony)[1] == filtered  # judged by the rule of its time


# Of a packet session: cause for closing of a part that another follows, and of the last.
VOLUME_LIMIT, NORMAL_RELEASE = 16, 0


@dataclass(frozen=True)
class PacketRecord:
    """A gateway's record: octets up and down of each service, which has a rating group."""

    session: int
    part: int | None  # None of a session told whole
    is_last: bool
    services: tuple[tuple[int, int, int], ...]

    @property
    def line(self) -> str:
        return f"86130{self.session:08d}"

    def octets(self) -> bytes:
        cause = NORMAL_RELEASE if self.is_last else VOLUME_LIMIT
        return packet_record(
            charging_id=self.session, msisdn=self.line, duration=60, part=self.part,
            services=[service(*each) for each in self.services],
        ).replace(element(15, integer(0)), element(15, integer(cause)))  # fmt: skip


def drawn_records(draw: random.Random, files: int) -> list[list[PacketRecord]]:
    """Sessions whole and in parts, in any order and file, some parts lost and some sent twice."""
    made: list[list[PacketRecord]] = [[] for _ in range(files)]
    for session_number in range(1, 40):
        count = draw.choice([1, 1, 2, 3])
        for part in range(1, count + 1):
            groups = draw.choice([(7,), (7, 9), (9, 11, 7), (9, 9), ()])
            record = PacketRecord(
                session_number, part if count > 1 else None, part == count,
                tuple((group, draw.choice([0, 3, 1000]), draw.choice([0, 5])) for group in groups),
            )  # fmt: skip
            for _ in range(draw.choice([0, 1, 1, 1, 2])):
                draw.choice(made).append(record)
    for records in made:
        draw.shuffle(records)
    return made


def main_group(record: PacketRecord) -> int | None:
    """The lowest group of which something was used; where nothing was, the only one."""
    used = {group for group, uplink, downlink in record.services if uplink + downlink}
    if used:
        return min(used)
    named = {group for group, *_ in record.services}
    return named.pop() if len(named) == 1 else None


def octets_by_group(
    live: Sequence[Sequence[PacketRecord]],
) -> Counter[tuple[str, int | None, int, int, int]]:
    """Line, group, octets up and down and seconds of every usage of the files that count."""
    sessions: dict[int, dict[int | None, PacketRecord]] = defaultdict(dict)
    for records in live:
        for record in records:
            sessions[record.session][record.part] = record
    usage: Counter[tuple[str, int | None, int, int, int]] = Counter()
    for parts in sessions.values():
        told = [parts[part] for part in sorted(parts, key=lambda part: part or 0)]
        up: Counter[int] = Counter()
        down: Counter[int] = Counter()
        for record in told:
            for group, uplink, downlink in record.services:
                up[group] += uplink
                down[group] += downlink
        used = [group for group in sorted(up) if up[group] + down[group]]
        seconds = 60 * len(told)
        main = main_group(told[0])
        if not used:
            usage[told[0].line, main, 0, 0, seconds] += 1
        elif main not in used:
            main = used[0]
        for group in used:
            lasting = seconds if group == main else 0
            usage[told[0].line, group, up[group], down[group], lasting] += 1
    return usage


def test_a_session_is_a_usage_for_each_of_its_rating_groups(home: Settings) -> None:
    draw = random.Random(32_251)
    files = drawn_records(draw, 3)
    names: list[str] = []

    def compare(live: Sequence[int]) -> None:
        with open_warehouse(home, "compare") as warehouse:
            listed = ", ".join(f"'{name}'" for name in names)
            found = Counter(
                warehouse.rows(
                    "select served_msisdn, rating_group, uplink_octets, downlink_octets,"
                    f" duration_seconds from mediation.usage where _file_id in ({listed})"
                )
            )
            twice = warehouse.rows(
                "select usage_id from mediation.usage group by usage_id having count(*) > 1"
            )
            ((standard, whole),) = warehouse.rows(
                "select (select count(*) from mediation.record_outcome where outcome = 'standard'),"
                " (select count(*) from mediation.usage where not is_continued)"
            )
        assert found == octets_by_group([files[at] for at in live])
        assert (twice, standard) == ([], whole)

    for at, records in enumerate(files):
        names.append(mediated(home, 11 + at, [record.octets() for record in records]))
        compare(range(at + 1))
    plan = plan_rollback(home, principal=OPERATOR, scope="file", target=names[0])
    request_rollback(
        home, principal=OPERATOR, scope="file", target=names[0], reason="test",
        files=plan.files, counts=plan.as_document(), cycle_ids=list(plan.cycles),
    )  # fmt: skip
    run_step("mediate", home)
    compare([1, 2])
    ingestion.reload(home, names[0], who="operator", reason="test")
    ingestion.land(home)
    run_step("mediate", home)
    compare([0, 1, 2])
