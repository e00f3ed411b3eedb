"""Rejected records: published, looked at, corrected and recycled."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from html import unescape
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from operational.control import rejects
from operational.control.record_fields import FIELDS, FieldValueError, check_values
from operational.control.rejects import Change, Replacement, Selection, publish_rejects
from operational.database import transaction
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from tollhouse.file_reasons import FileReason
from tollhouse.settings import Settings

OPERATOR = Principal("operator", "采集值班", "operator", HEADQUARTERS)
OPERATOR_44 = Principal("operator44", "x", "operator", "44")
FILES = {"RJ-11/a": "11", "RJ-44/a": "44", "RJ-44/b": "44"}
Browser = Callable[..., TestClient]


def rejected(file_id: str, number: int, **changes: Any) -> dict[str, Any]:
    """A row of `mediation.rejected_record`."""
    return {
        "_file_id": file_id, "_record_number": number, "record_format": "switch_cdr",
        "source_id": file_id.partition("/")[0], "province_code": FILES[file_id],
        "reason_code": "invalid_msisdn", "severity": "error", "decode_detail": None,
        "raw_record": "a|b", "received_at": datetime(2026, 10, 2, 3, 4, 5),  # noqa: DTZ001 - UTC
        "_byte_offset": 100 * number, "_byte_length": 90, "service": "voice", "direction": "mo",
        "served_msisdn": f"17951139000000{number:02d}", "served_imsi": None,
        "other_party": "10086", "started_local": datetime(2026, 10, 1, 8, 0, 9),  # noqa: DTZ001
        "utc_offset_minutes": 480, "duration_seconds": 60, "uplink_octets": 0,
        "downlink_octets": 0, "serving_plmn": "46001", "call_reference": "ref",
        "_batch_id": "x",
    } | changes  # fmt: skip


def stream(rows: list[dict[str, Any]], rows_per_batch: int = 1) -> pa.RecordBatchReader:
    """The rows as a warehouse gives them: in batches, here of one."""
    return arrow(rows).to_reader(rows_per_batch)


def arrow(rows: list[dict[str, Any]]) -> pa.Table:
    types = {name: pa.string() for name in rejected("RJ-44/a", 1)} | {
        "_record_number": pa.int32(), "_byte_length": pa.int32(), "_byte_offset": pa.int64(),
        "received_at": pa.timestamp("us"), "started_local": pa.timestamp("us"),
        "utc_offset_minutes": pa.int32(), "duration_seconds": pa.int64(),
        "uplink_octets": pa.int64(), "downlink_octets": pa.int64(),
    }  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema(list(types.items())))


@pytest.fixture
def publish(operational: Settings, psql: Any) -> Callable[..., int]:
    """Publishes rows as the result of a mediation run of all the files as they are now."""
    runs = (f"mediate-{number}" for number in itertools.count())

    def run(rows: list[dict[str, Any]], *, since: str | None = None) -> int:
        batch_id = since or begin()
        return publish_rejects(operational, stream(rows), batch_id=batch_id)

    def begin() -> str:
        batch_id = next(runs)
        with psql() as connection:
            connection.execute(
                "insert into control.mediation_work"
                " (batch_id, file_id, revision, is_again, is_changed)"
                " select %s, file_id, revision, false, false from control.usage_file"
                " where file_id = any(%s)",
                (batch_id, list(FILES)),
            )
        return batch_id

    with psql() as connection:
        # Corrections are append-only for everybody; each test begins without those of others.
        connection.execute("set local session_replication_role = replica")
        connection.execute("delete from control.correction")
        connection.execute("delete from control.rejected_record")
        connection.execute("delete from control.mediation_work")
        for file_id, province in FILES.items():
            connection.execute(
                "insert into control.usage_file (file_id, source_id, file_name, province_code,"
                " sha256, size_bytes, received_at, status, revision, batch_id) values"
                " (%s, split_part(%s, '/', 1), 'a', %s, %s, 1, now(), 'mediated', 1, 'land-1')"
                " on conflict (file_id) do update set status = 'mediated', batch_id = 'land-1'",
                (file_id, file_id, province, file_id),
            )
    run.begin = begin  # type: ignore[attr-defined]
    return run


def correct(settings: Settings, selection: Selection, **change: Any) -> rejects.Corrected:
    principal = change.pop("principal", OPERATOR)
    return rejects.apply_change(
        settings, principal=principal, selection=selection, change=Change(**change), reason="test"
    )


def latest(psql: Any, file_id: str, number: int) -> dict[str, str | None]:
    """The overrides that count for a record, as mediation finds them."""
    with psql() as connection:
        row = connection.execute(
            f"select {', '.join(FIELDS)} from control.correction"
            " where file_id = %s and record_number = %s"
            " order by corrected_at desc, correction_id desc limit 1",
            (file_id, number),
        ).fetchone()
    return {name: value for name, value in zip(FIELDS, row, strict=True) if value is not None}


def state(psql: Any, file_id: str, number: int) -> str | None:
    with psql() as connection:
        row = connection.execute(
            "select status from control.rejected_record where (file_id, record_number) = (%s, %s)",
            (file_id, number),
        ).fetchone()
    return row[0] if row else None


def revision(psql: Any, file_id: str) -> int:
    with psql() as connection:
        row = connection.execute(
            "select revision from control.usage_file where file_id = %s", (file_id,)
        ).fetchone()
    return int(row[0])


def test_publishing_keeps_every_field_and_replaces_what_the_files_had(
    operational: Settings, publish: Any
) -> None:
    assert publish([rejected("RJ-44/a", 1), rejected("RJ-44/b", 1)]) == 2
    assert publish([rejected("RJ-44/a", 2, raw_record="x\0y")]) == 1
    with transaction(operational) as session:
        (row,) = rejects.list_rejects(session, principal=OPERATOR, selection=Selection())
    assert (row.file_id, row.record_number, row.byte_offset, row.status) == (
        "RJ-44/a", 2, 200, "open",
    )  # fmt: skip
    assert row.started_local == "20261001080009"
    assert (row.duration_seconds, row.raw_record) == ("60", "x\\x00y")
    assert row.received_at.isoformat() == "2026-10-02T03:04:05+00:00"


def test_publishing_holds_a_batch_at_a_time_however_many_there_are(
    operational: Settings, publish: Any
) -> None:
    batch_id = publish.begin()
    one = arrow([rejected("RJ-44/a", each, raw_record="x" * 2_000) for each in range(1, 1_001)])
    numbers, held = one.schema.get_field_index("_record_number"), []

    def batches() -> Iterator[pa.RecordBatch]:
        for each in range(10):
            held.append(pa.total_allocated_bytes())
            shifted = pc.add(one["_record_number"], pa.scalar(1_000 * each, pa.int32()))
            table = one.set_column(numbers, "_record_number", shifted)
            yield from table.combine_chunks().to_batches()

    rows = pa.RecordBatchReader.from_batches(one.schema, batches())
    assert publish_rejects(operational, rows, batch_id=batch_id) == 10_000
    assert max(held) - held[0] < 4 * one.nbytes


def test_publishing_leaves_the_files_of_other_runs_alone(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-44/b", 1)])
    with psql() as connection:
        connection.execute(
            "insert into control.mediation_work"
            " (batch_id, file_id, revision, is_again, is_changed)"
            " values ('only-b', 'RJ-44/b', 1, true, true)"
        )
    rows = stream([rejected("RJ-44/a", 7), rejected("RJ-44/b", 8)])
    assert publish_rejects(operational, rows, batch_id="only-b") == 1
    assert state(psql, "RJ-44/a", 1) == "open"
    assert state(psql, "RJ-44/a", 7) is None
    assert state(psql, "RJ-44/b", 8) == "open"


def test_a_file_rolled_back_meanwhile_has_no_rejected_records(publish: Any, psql: Any) -> None:
    publish([rejected("RJ-44/b", 1)])
    batch_id = publish.begin()
    with psql() as connection:
        connection.execute(
            "update control.usage_file set status = 'rolled_back' where file_id = 'RJ-44/b'"
        )
    assert publish([rejected("RJ-44/b", 1)], since=batch_id) == 0
    assert state(psql, "RJ-44/b", 1) is None


def test_a_missing_column_is_named(operational: Settings) -> None:
    rows = arrow([rejected("RJ-44/a", 1)]).drop_columns(["_byte_offset"])
    with pytest.raises(ValueError, match="lacks byte_offset"):
        publish_rejects(operational, rows.to_reader(), batch_id="x")


def test_a_correction_waits_for_the_next_run_and_is_over_with_it(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-44/a", 2)])
    before = revision(psql, "RJ-44/a")
    done = correct(
        operational, Selection(file_id="RJ-44/a", record_number=1), values={"service": "sms"}
    )
    assert (done.records, done.file_ids) == (1, ["RJ-44/a"])
    assert revision(psql, "RJ-44/a") == before + 1
    assert (state(psql, "RJ-44/a", 1), state(psql, "RJ-44/a", 2)) == ("corrected", "open")
    publish([rejected("RJ-44/a", 1, reason_code="too_old")])
    assert state(psql, "RJ-44/a", 1) == "open"


def test_a_correction_made_during_a_run_is_not_taken_for_done(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-44/a", 2)])
    batch_id = publish.begin()
    correct(operational, Selection(file_id="RJ-44/a", record_number=1), values={"service": "sms"})
    publish([rejected("RJ-44/a", 1), rejected("RJ-44/a", 2)], since=batch_id)
    assert (state(psql, "RJ-44/a", 1), state(psql, "RJ-44/a", 2)) == ("corrected", "open")


def test_corrections_add_up_until_one_forgets_them(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 3)])
    one = Selection(file_id="RJ-44/a", record_number=3)
    correct(operational, one, values={"served_msisdn": "+8613900000001"})
    correct(operational, one, values={"service": "sms"})
    assert latest(psql, "RJ-44/a", 3) == {"served_msisdn": "+8613900000001", "service": "sms"}
    correct(operational, one)
    assert latest(psql, "RJ-44/a", 3) == {"served_msisdn": "+8613900000001", "service": "sms"}
    correct(operational, one, values={"direction": "mt"}, as_received=True)
    assert latest(psql, "RJ-44/a", 3) == {"direction": "mt"}
    correct(operational, one, as_received=True)
    assert latest(psql, "RJ-44/a", 3) == {}


def test_a_correction_is_of_one_landing_and_not_of_the_next(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 3)])
    one = Selection(file_id="RJ-44/a", record_number=3)
    correct(operational, one, values={"served_msisdn": "+8613900000001"})
    with psql() as connection:
        connection.execute(
            "update control.usage_file set batch_id = 'land-2' where file_id = 'RJ-44/a'"
        )
    publish([rejected("RJ-44/a", 3)])
    correct(operational, one, values={"service": "sms"})
    assert latest(psql, "RJ-44/a", 3) == {"service": "sms"}
    with psql() as connection:
        kept = connection.execute(
            "select land_batch_id, served_msisdn, service from control.correction order by 1"
        ).fetchall()
    assert kept == [("land-1", "+8613900000001", None), ("land-2", None, "sms")]


def test_rejects_published_while_a_correction_waits_are_left_to_the_next_one(
    operational: Settings, publish: Any, psql: Any, monkeypatch: Any
) -> None:
    publish([rejected("RJ-44/a", 1)])
    lock_files = rejects._lock_files

    def lock_and_be_overtaken(*arguments: Any) -> list[str]:
        files = lock_files(*arguments)
        with psql() as connection:  # another run publishes a file that is not locked
            connection.execute(
                "insert into control.rejected_record (file_id, record_number, source_id,"
                " province_code, reason_code, received_at)"
                " values ('RJ-44/b', 2, 'RJ-44', '44', 'invalid_msisdn', now())"
            )
        return files

    monkeypatch.setattr(rejects, "_lock_files", lock_and_be_overtaken)
    before = revision(psql, "RJ-44/b")
    done = correct(operational, Selection(reason_code="invalid_msisdn"))
    assert (done.records, done.file_ids) == (1, ["RJ-44/a"])
    assert (state(psql, "RJ-44/a", 1), state(psql, "RJ-44/b", 2)) == ("corrected", "open")
    assert revision(psql, "RJ-44/b") == before


def test_a_part_is_replaced_where_the_pattern_matches_and_the_dry_run_says_so(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-44/b", 2),
             rejected("RJ-44/b", 3, served_msisdn="139"), rejected("RJ-11/a", 4)])  # fmt: skip
    change = Change(replacement=Replacement("served_msisdn", "^17951(1\\d+)$", "+86\\1"))
    with transaction(operational) as session:
        dry = rejects.try_change(
            session, principal=OPERATOR, selection=Selection(reason_code="invalid_msisdn"),
            change=change,
        )  # fmt: skip
    assert (dry.records, dry.files) == (3, 3)
    assert dry.samples[1].values == {"served_msisdn": ("1795113900000001", "+8613900000001")}
    assert state(psql, "RJ-44/a", 1) == "open", "a dry run changes nothing"
    done = correct(operational, Selection(source_id="RJ-44"), replacement=change.replacement)
    assert (done.records, done.file_ids) == (2, ["RJ-44/a", "RJ-44/b"])
    assert latest(psql, "RJ-44/b", 2) == {"served_msisdn": "+8613900000002"}
    assert state(psql, "RJ-44/b", 3) == "open"
    assert state(psql, "RJ-11/a", 4) == "open"


def test_a_pattern_goes_by_what_was_corrected_before(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 5)])
    one = Selection(file_id="RJ-44/a", record_number=5)
    correct(operational, one, values={"served_msisdn": "007913900000005"})
    correct(operational, one, replacement=Replacement("served_msisdn", "^0079", "+86"))
    assert latest(psql, "RJ-44/a", 5) == {"served_msisdn": "+8613900000005"}


def test_a_replacement_that_makes_nonsense_of_one_record_changes_none(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-44/a", 2, served_msisdn="17951")])
    with pytest.raises(FieldValueError, match="served_msisdn = '': 3 to 20 digits"):
        correct(
            operational, Selection(file_id="RJ-44/a"),
            replacement=Replacement("served_msisdn", "^17951", ""),
        )  # fmt: skip
    assert state(psql, "RJ-44/a", 1) == "open"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replacement": Replacement("served_msisdn", "(", "")}, "the pattern \\( is wrong"),
        ({"replacement": Replacement("served_msisdn", "", "")}, "1 to 500 characters"),
        ({"replacement": Replacement("raw_record", "a", "")}, "not a field that can be corrected"),
        ({"values": {"file_id": "x"}}, "not a field that can be corrected: file_id"),
        ({"values": {"service": "fax"}}, "service = 'fax': voice, sms"),
        (
            {"values": {"other_party": "1"}, "replacement": Replacement("other_party", "a", "")},
            "both set and replaced",
        ),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_with_the_reason(
    operational: Settings, publish: Any, change: dict[str, Any], message: str
) -> None:
    publish([rejected("RJ-44/a", 1)])
    with pytest.raises(InvalidRequestError, match=message):
        correct(operational, Selection(), **change)


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(FieldValueError) as caught:
        check_values({"service": "voice", "served_imsi": "46", "started_local": "20260230000000"})
    assert set(caught.value.wrong) == {"served_imsi", "started_local"}


@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=20), min_size=1))
def test_a_value_that_passes_is_one_that_mediation_can_read(values: dict[str, str]) -> None:
    try:
        check_values(values)
    except FieldValueError as error:
        assert error.wrong
        values = {name: text for name, text in values.items() if name not in error.wrong}
    for name, text in values.items():
        assert text
        assert text.isascii()
        if name in ("duration_seconds", "uplink_octets", "downlink_octets", "utc_offset_minutes"):
            assert -(2**31) < int(text) < 2**62
        if name == "started_local":
            datetime.strptime(text, "%Y%m%d%H%M%S")  # noqa: DTZ007 - civil time


def test_nothing_is_corrected_without_a_reason_a_record_or_the_right(
    operational: Settings, publish: Any
) -> None:
    publish([rejected("RJ-44/a", 1)])
    agent = Principal("agent44", "x", "agent", "44")
    with pytest.raises(ForbiddenError):
        correct(operational, Selection(), values={"service": "sms"}, principal=agent)
    with pytest.raises(ConflictError, match="no rejected record is chosen"):
        correct(operational, Selection(reason_code="too_old"), values={"service": "sms"})
    with pytest.raises(InvalidRequestError, match="give a reason"):
        rejects.apply_change(
            operational, principal=OPERATOR, selection=Selection(), change=Change(), reason="  "
        )


def test_a_rolled_back_file_has_nothing_to_correct(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/b", 1)])
    with psql() as connection:
        connection.execute(
            "update control.usage_file set status = 'rolled_back' where file_id = 'RJ-44/b'"
        )
    with pytest.raises(ConflictError, match="no rejected record is chosen"):
        correct(operational, Selection(file_id="RJ-44/b"))


def test_a_province_sees_and_corrects_its_own_records_only(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-11/a", 1)])
    with transaction(operational) as session:
        seen = rejects.list_rejects(session, principal=OPERATOR_44, selection=Selection())
        assert {row.province_code for row in seen} == {"44"}
        with pytest.raises(NotFoundError):
            rejects.find_reject(session, principal=OPERATOR_44, file_id="RJ-11/a", record_number=1)
    done = correct(operational, Selection(), principal=OPERATOR_44)
    assert done.file_ids == ["RJ-44/a"]
    assert state(psql, "RJ-11/a", 1) == "open"


def test_of_two_corrections_at_once_the_later_counts_whole(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 9)])
    before = revision(psql, "RJ-44/a")
    barrier = threading.Barrier(4)
    one = Selection(file_id="RJ-44/a", record_number=9)
    sets = [{"service": "sms"}, {"direction": "mt"}, {"served_imsi": "460011234567890"},
            {"other_party": "10010"}]  # fmt: skip

    def run(values: dict[str, str]) -> None:
        barrier.wait(timeout=20)
        correct(operational, one, values=values)

    threads = [threading.Thread(target=run, args=(values,)) for values in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert latest(psql, "RJ-44/a", 9) == {key: text for part in sets for key, text in part.items()}
    assert revision(psql, "RJ-44/a") == before + 4


def test_a_correction_stays_as_it_was_made(operational: Settings, publish: Any, psql: Any) -> None:
    publish([rejected("RJ-44/a", 1)])
    correct(operational, Selection(file_id="RJ-44/a"))
    for statement in ("update control.correction set reason = 'x'",
                      "delete from control.correction"):  # fmt: skip
        with psql() as connection, pytest.raises(errors.RestrictViolation, match="append-only"):
            connection.execute(statement)


def test_the_audit_log_says_who_and_why_but_no_values(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1)])
    done = correct(operational, Selection(), values={"served_msisdn": "8613912345678"})
    with psql() as connection:
        row = connection.execute(
            "select username, action, province_code, detail from identity.audit_log"
            " where entity_id = %s",
            (done.action_id,),
        ).fetchone()
    assert row[:3] == ("operator", "correct_records", "44")
    assert row[3]["fields"] == ["served_msisdn"]
    assert "13912345678" not in str(row[3])


def test_many_records_are_corrected_together_in_seconds(
    operational: Settings, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", number) for number in range(1, 20_001)])
    done = correct(
        operational, Selection(reason_code="invalid_msisdn"),
        replacement=Replacement("served_msisdn", "^17951", ""),
    )  # fmt: skip
    assert done.records == 20_000
    with psql() as connection:
        count = connection.execute(
            "select count(*), count(distinct correction_id) from control.correction"
            " where action_id = %s and served_msisdn like '139%%'",
            (done.action_id,),
        ).fetchone()
    assert count == (20_000, 20_000)


# Pages --------------------------------------------------------------------------------------------


def token(client: TestClient, path: str) -> str:
    return re.findall(r'name="csrf_token" value="(\w+)"', client.get(path).text)[0]


def test_the_page_lists_filters_and_shows_a_record(browser: Browser, publish: Any) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-11/a", 2, reason_code="too_old")])
    client = browser("operator", "en")
    listed = client.get("/control/rejects").text
    assert "RJ-44/a #1" in listed
    assert "Too old" in listed
    narrowed = client.get("/control/rejects?reason=too_old&since=2026-10-01").text
    assert "RJ-11/a #2" in narrowed
    assert "RJ-44/a #1" not in narrowed
    assert client.get("/control/rejects?since=tomorrow").status_code == 422
    shown = client.get("/control/rejects/record?file=RJ-44/a&number=1").text
    assert "1795113900000001" in shown
    assert "byte 100, 90 bytes" in shown
    assert client.get("/control/rejects/record?file=RJ-44/a&number=99").status_code == 404


@pytest.mark.parametrize(
    ("language", "told"),
    [("zh", "第 3 行（第 90 字节处）：空行"), ("en", "line 3 at byte 90: an empty line")],
)
def test_what_the_decoder_found_is_told_in_the_readers_language(
    browser: Browser, publish: Any, language: str, told: str
) -> None:
    why = FileReason("line_at", {"line": "3", "at": "90", "why": FileReason("empty_line")})
    publish([rejected("RJ-44/a", 1, reason_code="undecodable", decode_detail=why.kept())])
    client = browser("operator", language)
    for path in ("/control/rejects", "/control/rejects/record?file=RJ-44/a&number=1"):
        assert told in client.get(path).text


def test_a_reason_keeps_the_other_filters_and_counts_what_it_shows(
    browser: Browser, publish: Any
) -> None:
    publish([
        rejected("RJ-44/a", 1), rejected("RJ-44/a", 2, reason_code="too_old"),
        rejected("RJ-44/b", 1, reason_code="too_old"),
        rejected("RJ-11/a", 3, reason_code="too_old"),
    ])  # fmt: skip
    client = browser("operator", "en")
    page = client.get("/control/rejects?file=RJ-44&since=2026-10-01&format=switch_cdr").text
    tabs = {
        code: (unescape(address), int(count))
        for address, code, count in re.findall(
            r'<a href="(/control/rejects\?[^"]*reason=(\w+)[^"]*)" [^>]*>[^<]*?(\d+)</a>', page
        )
    }  # fmt: skip
    assert {code: count for code, (_, count) in tabs.items()} == {
        "invalid_msisdn": 1, "too_old": 2,
    }  # fmt: skip
    address, count = tabs["too_old"]
    for kept in ("file=RJ-44", "since=2026-10-01", "format=switch_cdr"):
        assert kept in address
    shown = client.get(address).text
    assert len(re.findall(r"RJ-\d\d/\w #\d+</a>", shown)) == count
    assert "RJ-11" not in shown


@pytest.mark.parametrize("part", ["%", "_", "RJ_44"])
def test_a_part_of_a_file_is_text_and_no_pattern(browser: Browser, publish: Any, part: str) -> None:
    publish([rejected("RJ-44/a", 1)])
    listed = browser("operator", "en").get("/control/rejects", params={"file": part}).text
    assert "RJ-44/a #1" not in listed


def test_an_accepted_record_leads_to_the_explanation_of_its_usage(
    browser: Browser, operational: Settings, publish: Any
) -> None:
    publish([rejected("RJ-44/a", 1)])
    correct(operational, Selection(file_id="RJ-44/a", record_number=1))
    publish([])
    path = "/control/rejects/record?file=RJ-44/a&number=1"
    text = browser("admin", "en").get(path).text
    assert 'href="/explain/record?file=RJ-44/a&amp;number=1"' in text
    assert "/explain/record" not in browser("operator", "en").get(path).text  # may not read it


def test_a_record_is_corrected_on_its_page(browser: Browser, publish: Any, psql: Any) -> None:
    publish([rejected("RJ-44/a", 1)])
    client = browser("operator", "en")
    path = "/control/rejects/record?file=RJ-44/a&number=1"
    form = {"csrf_token": token(client, path), "file": "RJ-44/a", "number": "1",
            "intent": "correct", "why": "prefix of the exchange"}  # fmt: skip
    refused = client.post("/control/rejects/record", data=form | {"set_served_msisdn": "abc"})
    assert refused.status_code == 422
    assert "3 to 20 digits" in refused.text
    assert 'value="abc"' in refused.text, "what was typed is still there"
    assert 'action="/control/rejects/record?file=RJ-44/a&amp;number=1"' in refused.text
    assert client.post("/control/rejects/record", data=form).status_code == 422
    sent = client.post("/control/rejects/record", data=form | {"set_service": "sms"})
    assert sent.status_code == 303
    assert latest(psql, "RJ-44/a", 1)["service"] == "sms"
    assert "prefix of the exchange" in client.get(path).text


def test_many_records_are_corrected_only_after_they_were_shown(
    browser: Browser, publish: Any, psql: Any
) -> None:
    publish([rejected("RJ-44/a", 1), rejected("RJ-44/b", 2)])
    client = browser("operator", "en")
    form = {
        "csrf_token": token(client, "/control/rejects/bulk"), "source": "RJ-44",
        "replace_field": "served_msisdn", "pattern": "^17951", "replacement": "",
        "kind": "correct", "why": "prefix",
    }  # fmt: skip
    shown = client.post("/control/rejects/bulk", data=form | {"intent": "try"}).text
    assert "Records to be processed: 2, files: 2" in shown
    posted = re.findall(r'<form method="post" action="([^"]*rejects/bulk[^"]*)"', shown)
    assert posted and all("source=RJ-44" in path for path in posted)
    other_language = client.post(posted[0], data=form | {"intent": "try"}).text
    assert "source%3DRJ-44" in other_language, "the page in the other language has the selection"
    assert "1795113900000001 → 13900000001" in shown
    assert state(psql, "RJ-44/a", 1) == "open"
    again = client.post("/control/rejects/bulk", data=form | {"intent": "apply", "records": "3"})
    assert "Records to be processed: 2" in again.text
    assert state(psql, "RJ-44/a", 1) == "open", "another number than was shown is not done"
    confirm = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">',
                              shown[shown.index('class="confirm"'):shown.index("</form>",
                              shown.index('class="confirm"'))]))  # fmt: skip
    done = client.post("/control/rejects/bulk", data=confirm | {"intent": "apply"})
    assert "wait for the next mediation run: 2" in done.text
    assert state(psql, "RJ-44/b", 2) == "corrected"


@pytest.mark.parametrize("username", ["agent44", "analyst", "finance"])
def test_records_are_for_those_who_correct_them(browser: Browser, username: str) -> None:
    client = browser(username)
    for path in ("/control/rejects", "/control/rejects/bulk",
                 "/control/rejects/record?file=RJ-44/a&number=1"):  # fmt: skip
        assert client.get(path).status_code == 403
