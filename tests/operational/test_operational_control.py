"""Sources, rules, rollback pages and the migration behind them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
import yaml
from alembic import command
from alembic.config import Config
from fastapi.testclient import TestClient
from psycopg import errors

from operational import database
from operational.control import rules, service
from operational.control.models import ValidationRule
from operational.control.rules import RuleCardError, change_rule, load_rules
from operational.database import transaction
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ForbiddenError, InvalidRequestError, NotFoundError
from tollhouse.file_reasons import reason_of
from tollhouse.postgres import database_url
from tollhouse.settings import PROJECT_ROOT, Settings

OPERATOR = Principal("operator", "采集值班", "operator", HEADQUARTERS)
OPERATOR_44 = Principal("operator44", "x", "operator", "44")
Browser = Callable[..., TestClient]


@pytest.fixture(scope="module", autouse=True)
def sources(operational: Settings, psql: Any) -> Iterator[None]:
    """Two sources, one of which changed once, and three days of figures."""
    load_rules(operational)
    with psql() as connection:
        for source_id, province in (("CT-44", "44"), ("CT-11", "11")):
            connection.execute(
                "insert into control.source (source_id, format, province_code, late_after_hours,"
                " name_zh, name_en) values (%s, 'switch_cdr', %s, 24, '交换机', 'Switch')"
                " on conflict do nothing",
                (source_id, province),
            )
        connection.execute(
            "update control.source set late_after_hours = 48 where source_id = 'CT-44'"
        )
        connection.execute(
            "insert into identity.audit_log (username, action, entity_type, entity_id,"
            " province_code, detail) values ('collector', 'change_source', 'source', 'CT-44', '44',"
            """ '{"version": 2, "changes": {"late_after_hours": "24 → 48"}}')"""
        )
        connection.execute("create schema if not exists dm")
        connection.execute(
            "create table if not exists dm.source_day (source_id text, province_code text,"
            " file_date date, file_count bigint, record_count bigint, standard_count bigint,"
            " merged_count bigint, duplicate_count bigint, rejected_count bigint,"
            " filtered_count bigint, late_file_count bigint, mean_delay_seconds bigint,"
            " byte_count bigint, mean_collection_seconds bigint, mean_landing_seconds bigint,"
            " mean_mediation_seconds bigint, processed_count bigint,"
            " processing_seconds numeric(18, 6), records_per_second numeric(18, 1))"
        )
        connection.execute("delete from dm.source_day")
        for day, source_id, rejected, records, seconds in (
            (1, "CT-44", 5, 1000, 4), (2, "CT-44", 7, 500, 1), (2, "CT-11", 0, 0, 0),
        ):  # fmt: skip
            connection.execute(
                "insert into dm.source_day values (%s, %s, make_date(2026, 10, %s), 10, 1000, 900,"
                " 50, 20, %s, 30, 1, 90, 2000000, 150, 210, 270, %s, %s,"
                " round(%s / nullif(cast(%s as numeric), 0), 1))",
                (source_id, source_id[-2:], day, rejected, records, seconds, records, seconds),
            )
        connection.execute("delete from control.file_alarm")
        connection.execute(
            "insert into control.file_alarm"
            " (source_id, kind, detail_zh, detail_en, cleared_at) values"
            " ('CT-44', 'gap', '缺少序号 12 至 14', 'numbers 12 to 14 are missing', null),"
            " ('CT-44', 'late', '文件 11 迟到', 'file 11 was late', now()),"
            " ('CT-11', 'missing', '没有', 'none', null)"
        )
    yield
    with psql() as connection:
        # None of our migrations' tables: publishing makes them.
        connection.execute("drop schema dm cascade")
        # A rollback that waits keeps cycles from being closed: other modules close some.
        connection.execute(
            "update control.rollback set completed_at = now() where completed_at is null"
        )


# Sources ------------------------------------------------------------------------------------------


def test_days_add_up_to_the_figures_of_a_source(operational: Settings) -> None:
    with transaction(operational) as session:
        found = service.summarise_sources(session, principal=OPERATOR)
    by_source = {summary.source.source_id: summary for summary in found}
    counts = by_source["CT-44"].counts
    assert counts is not None
    assert (counts["file_count"], counts["record_count"], counts["rejected_count"]) == (
        20, 2000, 12,
    )  # fmt: skip
    assert by_source["CT-44"].rejected_share == 6.0
    # 1,500 in 5 seconds: not the mean of 250 and 500.
    assert by_source["CT-44"].records_per_second == 300
    assert by_source["CT-11"].records_per_second is None
    assert [alarm.kind for alarm in by_source["CT-44"].alarms] == ["gap"]


def test_an_operator_of_a_province_sees_its_sources_only(operational: Settings) -> None:
    with transaction(operational) as session:
        found = service.summarise_sources(session, principal=OPERATOR_44)
        assert {summary.source.province_code for summary in found} == {"44"}
        alarms = service.open_alarms(session, principal=OPERATOR_44)
        assert {alarm.source_id for alarm in alarms} == {"CT-44"}
        with pytest.raises(NotFoundError):
            service.find_source(session, principal=OPERATOR_44, source_id="CT-11")


def test_every_change_of_a_source_is_a_version_and_no_change_is_none(
    operational: Settings, psql: Any
) -> None:
    with psql() as connection:
        connection.execute("update control.source set format = format where source_id = 'CT-44'")
    with transaction(operational) as session:
        view = service.find_source(session, principal=OPERATOR, source_id="CT-44")
    assert [(version.version, changes) for version, changes in view.versions] == [
        (2, {"late_after_hours": (24, 48)}), (1, {}),
    ]  # fmt: skip
    assert [day.file_date for day in view.days] == [date(2026, 10, 2), date(2026, 10, 1)]
    assert [alarm.kind for alarm in view.alarms] == ["gap", "late"]


def test_before_the_first_publishing_sources_have_no_figures(
    operational: Settings, psql: Any
) -> None:
    with psql() as connection:
        connection.execute("alter table dm.source_day rename to source_day_away")
    try:
        with transaction(operational) as session:
            found = service.summarise_sources(session, principal=OPERATOR)
        assert found
        assert all(summary.counts is None for summary in found)
    finally:
        with psql() as connection:
            connection.execute("alter table dm.source_day_away rename to source_day")


# Rules --------------------------------------------------------------------------------------------


def change(settings: Settings, **changes: Any) -> ValidationRule:
    arguments: dict[str, Any] = {
        "principal": OPERATOR, "rule_code": "too_old", "source_id": None, "service": None,
        "severity": "reject", "limit_value": 30, "reason": "agreed",
    }  # fmt: skip
    return change_rule(settings, **arguments | changes)


def versions(psql: Any, rule_id: str) -> list[tuple[Any, ...]]:
    with psql() as connection:
        return list(connection.execute(
            "select version, severity, limit_value, valid_from, valid_to"
            " from control.validation_rule where rule_id = %s order by version",
            (rule_id,),
        ))  # fmt: skip


def test_the_shipped_rules_cover_every_check_and_load_once(operational: Settings) -> None:
    assert load_rules(operational) == {"control.validation_rule": 0}
    with transaction(operational) as session:
        found = rules.list_rules(session, principal=OPERATOR)
    assert {rule.rule_code for rule in found if rule.source_id is None} == set(rules.RULE_CODES)


def test_the_checks_are_those_that_mediation_makes() -> None:
    text = (PROJECT_ROOT / "dbt" / "macros" / "validation_rules.sql").read_text()
    assert re.findall(r"'([a-z_]+)'", text.partition("return([")[2]) == list(rules.RULE_CODES)


def test_a_rule_that_was_changed_is_not_reset_by_loading(operational: Settings, psql: Any) -> None:
    change(operational, rule_code="missing_cell", severity="warn", limit_value=None)
    load_rules(operational)
    assert [row[:2] for row in versions(psql, "missing_cell")] == [(1, "off"), (2, "warn")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rule_code": "no_such", "severity": "reject"}, "rule_code"),
        ({"rule_code": "too_old", "severity": "reject"}, "too_old: give its limit_value"),
        ({"rule_code": "test_number", "severity": "warn"}, "test_number: give its limit_value"),
        ({"rule_code": "rated_elsewhere", "severity": "off", "limit_value": 64}, "64 is no limit"),
        ({"rule_code": "emergency", "severity": "filter", "limit_value": 64}, "64 is no limit"),
        ({"rule_code": "emergency", "severity": "maybe"}, "severity"),
        ({"rule_code": "emergency", "severity": "off", "colour": 1}, "colour"),
    ],
)
def test_a_wrong_rule_file_is_refused_with_the_row(
    operational: Settings, tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"rules": [row]}), encoding="utf-8")
    with pytest.raises(RuleCardError, match=message):
        load_rules(operational, path)
    path.write_text(yaml.safe_dump({"rules": [{"rule_code": "emergency", "severity": "off"}] * 2}))
    with pytest.raises(RuleCardError, match="emergency: given twice"):
        load_rules(operational, path)


def test_a_change_closes_one_version_in_the_moment_the_next_begins(
    operational: Settings, psql: Any
) -> None:
    for limit in (30, 60, 60):
        change(operational, source_id="CT-44", service="voice", limit_value=limit)
    found = versions(psql, "too_old@CT-44/voice")
    assert [row[:3] for row in found] == [(1, "reject", 30), (2, "reject", 60)]
    assert found[0][4] == found[1][3]
    assert found[1][4] is None


def test_which_record_of_an_ims_session_is_rated_is_a_parameter_of_the_source(
    operational: Settings, psql: Any
) -> None:
    for limit in (63, 69, 83, None):
        change(operational, rule_code="rated_elsewhere", source_id="CT-44", limit_value=limit)
    found = versions(psql, "rated_elsewhere@CT-44")
    assert [row[2] for row in found] == [63, 69, 83, None]
    assert [row[2] for row in versions(psql, "rated_elsewhere")] == [83]


def test_of_changes_at_once_each_is_a_version(operational: Settings, psql: Any) -> None:
    barrier = threading.Barrier(4)

    def run(limit: int) -> None:
        barrier.wait(timeout=20)
        change(operational, service="mms", limit_value=limit)

    threads = [threading.Thread(target=run, args=(limit,)) for limit in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    found = versions(psql, "too_old/mms")
    assert [row[0] for row in found] == [1, 2, 3, 4]
    assert [row[4] for row in found[:-1]] == [row[3] for row in found[1:]]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"rule_code": "no_such"}, InvalidRequestError),
        ({"service": "fax"}, InvalidRequestError),
        ({"severity": "maybe"}, InvalidRequestError),
        ({"limit_value": None}, InvalidRequestError),
        ({"limit_value": -1}, InvalidRequestError),
        ({"rule_code": "emergency", "limit_value": 5}, InvalidRequestError),
        ({"rule_code": "rated_elsewhere", "limit_value": 64}, InvalidRequestError),
        ({"source_id": "NO-1"}, InvalidRequestError),
        ({"reason": " "}, InvalidRequestError),
        ({"principal": OPERATOR_44}, ForbiddenError),
        ({"principal": OPERATOR_44, "source_id": "CT-11"}, InvalidRequestError),
        ({"principal": Principal("f", "f", "finance", HEADQUARTERS)}, ForbiddenError),
    ],
)
def test_a_change_that_makes_no_sense_or_is_not_allowed_is_refused(
    operational: Settings, psql: Any, changes: dict[str, Any], error: type[Exception]
) -> None:
    count = "select count(*) from control.validation_rule"
    with psql() as connection:
        before = connection.execute(count).fetchone()
    with pytest.raises(error):
        change(operational, **{"limit_value": 77} | changes)
    with psql() as connection:
        assert connection.execute(count).fetchone() == before


@pytest.mark.parametrize(
    "statement",
    ["delete from control.validation_rule", "truncate control.validation_rule",
     "update control.validation_rule set severity = 'off'",
     "update control.validation_rule set valid_to = null where valid_to is not null",
     "update control.source_version set content = '{}'", "delete from control.source_version"],
)  # fmt: skip
def test_versions_are_kept_as_they_were(operational: Settings, psql: Any, statement: str) -> None:
    change(operational, limit_value=41)
    change(operational, limit_value=42)
    with psql() as connection, pytest.raises(errors.RestrictViolation):
        connection.execute(statement)


def test_a_rule_cannot_stand_under_an_id_that_is_not_its_scope(psql: Any) -> None:
    with psql() as connection, pytest.raises(errors.CheckViolation, match="rule_id_names_its_sco"):
        connection.execute(
            "insert into control.validation_rule (rule_id, version, rule_code, severity,"
            " valid_from, changed_by, change_reason)"
            " values ('mine', 1, 'too_old', 'off', now(), 'x', 'x')"
        )


# The migration ------------------------------------------------------------------------------------


def test_a_database_of_the_first_version_is_brought_up_to_date_with_what_is_in_it(
    operational: Settings,
) -> None:
    url = database_url(operational, "of_first_version")
    configuration = Config()
    configuration.set_main_option("script_location", str(database.MIGRATIONS))
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0001")
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into control.source (source_id, name, format, province_code, late_after_hours)"
            " values ('MSC-44', '广东交换机 Switch of Guangdong', 'switch_cdr', '44', 24),"
            " ('X', '无名', 'switch_cdr', '44', 24)"
        )
        connection.execute(
            "insert into control.usage_file (file_id, source_id, file_name, province_code, sha256,"
            " size_bytes, received_at, status) values ('a', 'X', 'a', '44', '1', 1, now(),"
            " 'mediated'), ('b', 'X', 'b', '44', '2', 1, now(), 'collected')"
        )
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
    engine.dispose()
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "select name_zh, name_en, timezone, country_code from control.source order by source_id"
        ).fetchall()
        revisions = connection.execute(
            "select file_id, revision from control.usage_file order by file_id"
        ).fetchall()
        kept = connection.execute("select count(*) from control.source_version").fetchone()
    assert names == [
        ("广东交换机", "Switch of Guangdong", "Asia/Shanghai", "86"),
        ("无名", "无名", "Asia/Shanghai", "86"),
    ]
    assert revisions == [("a", 1), ("b", 0)]
    assert kept == (2,)


def test_what_was_said_of_files_and_test_numbers_is_kept_in_the_new_shape(
    operational: Settings,
) -> None:
    url = database_url(operational, "of_one_text")
    configuration = Config()
    configuration.set_main_option("script_location", str(database.MIGRATIONS))
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0016")
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into control.usage_file (file_id, source_id, file_name, province_code, sha256,"
            " size_bytes, received_at, status, status_reason) values"
            " ('a', 'X', 'a', '44', '1', 1, now(), 'rejected', 'too {short}'),"
            " ('b', 'X', 'b', '44', '2', 1, now(), 'collected', null)"
        )
        connection.execute(
            "insert into control.validation_rule (rule_id, version, rule_code, severity,"
            " valid_from, changed_by, change_reason)"
            " values ('test_number', 1, 'test_number', 'warn', now(), 'x', 'x')"
        )
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
    engine.dispose()
    with psycopg.connect(url) as connection:
        told = connection.execute(
            "select status_reason_code, status_reason_values from control.usage_file order by 1"
        ).fetchall()
        found = connection.execute(
            "select version, limit_value, severity, valid_to from control.validation_rule"
        ).fetchall()
    assert [reason.en if (reason := reason_of(*row)) else None for row in told] == [
        "too {short}", None,
    ]  # fmt: skip
    assert found == [(1, 8617090000, "warn", None)]


# Pages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/control/sources", "/control/sources/CT-44"])
def test_an_alarm_is_told_in_the_language_of_the_reader(browser: Browser, path: str) -> None:
    told = {"zh": "缺少序号 12 至 14", "en": "numbers 12 to 14 are missing"}
    for language, other in (("zh", "en"), ("en", "zh")):
        text = browser("operator", language).get(path).text
        assert told[language] in text
        assert told[other] not in text


PAGES = ("/files", "/control/sources", "/control/sources/CT-44", "/control/rejects",
         "/control/rules", "/control/rollbacks", "/control/audit")  # fmt: skip


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_the_room_is_there_in_both_languages(
    browser: Browser, path: str, language: str
) -> None:
    answer = browser("operator", language).get(path)
    assert answer.status_code == 200
    title = {"zh": "采集控制", "en": "Mediation control"}[language]
    assert f'aria-label="{title}"' in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_the_room_is_for_its_roles(browser: Browser, path: str) -> None:
    assert browser("agent44").get(path).status_code == 403
    assert browser().get(path).headers["location"] == f"/sign-in?after={path}"


def test_the_menu_leads_to_the_first_page_of_the_room_one_may_see(browser: Browser) -> None:
    assert browser("operator").get("/control").headers["location"] == "/files"
    assert browser("finance").get("/control").headers["location"] == "/control/rules"
    assert browser("agent44").get("/control").status_code == 403
    marked = '<a href="/control" aria-current="page">'
    for path in ("/files", "/control/rejects"):
        assert marked in browser("operator").get(path).text


def test_finance_reads_rules_and_rollbacks_but_changes_none(browser: Browser) -> None:
    client = browser("finance", "en")
    text = client.get("/control/rules").text
    assert "invalid_duration" in text
    assert "Put a new version in force" not in text
    assert client.get("/control/rollbacks").status_code == 200
    assert client.get("/control/rejects").status_code == 403
    assert 'href="/control/rejects"' not in text


def test_a_rule_is_changed_on_its_page_and_the_log_says_who(browser: Browser) -> None:
    client = browser("operator", "en")
    text = client.get("/control/rules").text
    form = {
        "csrf_token": re.findall(r'name="csrf_token" value="(\w+)"', text)[0],
        "rule_code": "invalid_volume", "source_id": "CT-11", "service": "data",
        "severity": "reject", "limit_value": "x1", "reason": "larger cells",
    }  # fmt: skip
    refused = client.post("/control/rules", data=form)
    assert refused.status_code == 422
    assert 'value="larger cells"' in refused.text, "what was typed is still there"
    assert client.post("/control/rules", data=form | {"limit_value": "9,000"}).status_code == 303
    assert "invalid_volume@CT-11/data" in client.get("/control/rules").text
    log = client.get("/control/audit").text
    assert "Rule changed" in log
    assert "larger cells" in log


def test_the_sources_page_shows_figures_and_open_alarms(browser: Browser) -> None:
    text = browser("operator", "en").get("/control/sources").text
    assert "2,000" in text
    assert "300.0</td>" in text
    assert "numbers 12 to 14 are missing" in text
    assert "file 11 was late" not in text


@pytest.mark.parametrize(
    ("language", "labels", "unit"),
    [
        ("zh", ("到达至采集", "到达至入库", "到达至预处理", "吞吐率（条/秒）"), "分钟"),
        ("en", ("Arrival to collected", "Arrival to landed", "Arrival to mediated",
                "Records a second"), "min"),
    ],
)  # fmt: skip
def test_the_page_of_a_source_shows_how_long_its_files_took_and_how_fast_they_went(
    browser: Browser, language: str, labels: tuple[str, ...], unit: str
) -> None:
    text = browser("operator", language).get("/control/sources/CT-44").text
    columns = [text.index(f">{label}</th>") for label in labels]
    assert columns == sorted(columns)
    spans = "".join(f'<td class="number">{minutes} {unit}</td>' for minutes in (1.5, 2.5, 3.5, 4.5))
    assert f'{spans}<td class="number">250.0</td>' in text
    assert f'{spans}<td class="number">500.0</td>' in text


def test_the_parameters_of_a_source_are_on_its_page(browser: Browser, psql: Any) -> None:
    with psql() as connection:
        connection.execute(
            "insert into control.source (source_id, format, province_code, late_after_hours,"
            " name_zh, name_en, file_name, sender, settle_minutes, done_marker, archive_days)"
            " values ('CT-51', 'switch_cdr', '51', 24, '交换机', 'Switch', 'CT-51_.*', 'SWITCH5',"
            " 7, '.done', 90) on conflict do nothing"
        )
    text = browser("operator", "en").get("/control/sources/CT-51").text
    for shown in ("CT-51_.*", "SWITCH5", "7 minutes", ".done", "90 days"):
        assert f">{shown}</dd>" in text, shown


def test_the_alarm_of_a_refused_file_is_settled_on_the_page_of_its_source(
    browser: Browser, psql: Any
) -> None:
    with psql() as connection:
        connection.execute(
            "insert into control.file_alarm (source_id, kind, file_id, detail_zh, detail_en)"
            " values ('CT-44', 'quarantined', 'CT-44/odd', '被拒收', 'was refused'),"
            " ('CT-11', 'quarantined', 'CT-11/odd', '被拒收', 'was refused')"
        )
    client = browser("operator", "en")
    text = client.get("/control/sources/CT-44").text
    path = "/control/sources/CT-44/alarms"
    form = {
        "csrf_token": re.findall(r'name="csrf_token" value="(\w+)"', text)[0],
        "file": "CT-44/odd", "reason": "a ring tone",
    }  # fmt: skip
    assert client.post(path, data=form | {"reason": " "}).status_code == 422
    assert client.post(path, data=form | {"file": "CT-44/none"}).status_code == 422
    assert client.post(path, data=form).status_code == 303
    text = client.get("/control/sources/CT-44").text
    assert "Settled by operator: a ring tone" in text
    assert f'action="{path}"' not in text
    log = client.get("/control/audit").text
    assert "Alarm settled" in log
    assert "a ring tone" in log
    answer = browser("finance").post(path, data=form | {"csrf_token": csrf_of(browser("finance"))})
    assert answer.status_code == 403


def csrf_of(client: Any) -> str:
    """What the forms of a signed-in user carry."""
    found = re.findall(r'name="csrf_token" value="(\w+)"', client.get("/control/rollbacks").text)
    return str(found[0])


@pytest.mark.parametrize("reason", ["", " "])
def test_an_alarm_is_settled_with_a_reason_by_whoever_sees_its_province(
    operational: Settings, psql: Any, reason: str
) -> None:
    with psql() as connection:
        connection.execute(
            "insert into control.file_alarm (source_id, kind, file_id, detail_zh, detail_en)"
            " values ('CT-11', 'quarantined', 'CT-11/odd', '被拒收', 'was refused')"
        )
    with pytest.raises(InvalidRequestError, match="give a reason"):
        service.settle_alarm(operational, principal=OPERATOR, file_id="CT-11/odd", reason=reason)
    local = Principal("op44", "Op", "operator", "44")
    with pytest.raises(NotFoundError, match="CT-11/odd"):
        service.settle_alarm(operational, principal=local, file_id="CT-11/odd", reason="x")


@pytest.mark.parametrize(
    ("language", "told"),
    [("zh", "CT-44 的文件名应符合 CT-44_x"), ("en", "files of CT-44 are named like CT-44_x")],
)
def test_why_a_file_was_refused_is_told_in_the_readers_language(
    browser: Browser, psql: Any, language: str, told: str
) -> None:
    with psql() as connection:
        connection.execute(
            "insert into control.usage_file (file_id, source_id, file_name, province_code, sha256,"
            " size_bytes, received_at, status, status_reason_code, status_reason_values) values"
            " ('CT-44/odd', 'CT-44', 'odd', '44', 'odd', 1, now(), 'rejected', 'misnamed',"
            """ '{"source_id": "CT-44", "pattern": "CT-44_x"}') on conflict do nothing"""
        )
    assert told in browser("operator", language).get("/files?status=rejected").text
    (file,) = browser("operator", language).get("/files?status=rejected").text.split("<tbody>")[1:2]
    assert file.count(told) == 1


def test_a_changed_source_is_in_the_log_of_operations(browser: Browser) -> None:
    text = browser("operator", "en").get("/control/audit").text
    assert "Source changed" in text
    assert "late_after_hours=24 → 48" in text


@pytest.fixture
def rolled_back(psql: Any) -> None:
    """A file of each of two provinces, rolled back by itself, and an operator of one of them."""
    with psql() as connection:
        for province in ("11", "44"):
            file_id = f"CT-{province}/rolled"
            connection.execute(
                "insert into control.usage_file (file_id, source_id, file_name, province_code,"
                " sha256, size_bytes, received_at, status) values (%s, %s, 'x', %s, %s, 1, now(),"
                " 'rolled_back') on conflict do nothing",
                (file_id, f"CT-{province}", province, file_id),
            )
            connection.execute(
                "insert into control.rollback (rollback_id, scope, target, reason, requested_by,"
                " counts) values (%s, 'file', %s, 'wrong clock', 'operator',"
                """ '{"cycles": {"2026-10": {"charges": 3, "charge_amount": "3.750000","""
                """ "settlement_entries": 1, "settlement_amount": "0.060000"}}}')"""
                " on conflict do nothing",
                (f"rollback-{province}", file_id),
            )
            connection.execute(
                "insert into control.rollback_file values (%s, %s, 10, 2, 3, 3.75)"
                " on conflict do nothing",
                (f"rollback-{province}", file_id),
            )
        connection.execute(
            "insert into identity.app_user (username, password_hash, display_name, role,"
            " province_code) select 'operator44', password_hash, 'x', 'operator', '44'"
            " from identity.app_user where username = 'admin' on conflict do nothing"
        )


@pytest.mark.usefixtures("rolled_back")
def test_a_rollback_is_shown_file_by_file_to_its_province(browser: Browser) -> None:
    client = browser("operator44", "en")
    listed = client.get("/control/rollbacks").text
    assert "rollback-44" in listed
    assert "rollback-11" not in listed
    shown = client.get("/control/rollbacks/rollback-44").text
    for text in ("wrong clock", "0.06</td>", "CT-44/rolled", "tollhouse rollback --resume"):
        assert text in shown
    assert client.get("/control/rollbacks/rollback-11").status_code == 404


@pytest.mark.usefixtures("rolled_back")
def test_the_sums_of_a_rollback_are_shown_to_who_sees_all_its_files(
    browser: Browser, psql: Any
) -> None:
    with psql() as connection:
        connection.execute(
            "insert into control.rollback (rollback_id, scope, target, reason, requested_by,"
            " counts) values ('rollback-both', 'batch', 'land-9', 'wrong clock', 'operator',"
            """ '{"cycles": {"2026-10": {"charges": 7, "charge_amount": "98765.430000","""
            """ "settlement_entries": 1, "settlement_amount": "0.060000"}}}')"""
        )
        for province in ("11", "44"):
            connection.execute(
                "insert into control.rollback_file values ('rollback-both', %s, 10, 2, 3, 3.75)",
                (f"CT-{province}/rolled",),
            )
    assert "98,765.43" in browser("admin", "en").get("/control/rollbacks/rollback-both").text
    shown = browser("operator44", "en").get("/control/rollbacks/rollback-both").text
    assert "CT-44/rolled" in shown
    assert "98,765.43" not in shown
    assert "the sums by cycle are not shown" in shown
