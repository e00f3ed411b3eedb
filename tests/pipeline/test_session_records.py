"""Sessions that are told by several records, or by one record of several things."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

import ingestion
from operational.control.rules import change_rule
from operational.permissions import Principal
from tests.ingestion.conftest import element, framed, integer, packet_file
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer
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
