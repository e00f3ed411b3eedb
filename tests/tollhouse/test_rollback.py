"""Taking files back: what is shown, what is refused, and that a killed rollback is finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from typer.testing import CliRunner

from operational import database
from operational.billing.service import advance_cycle, ensure_cycle
from operational.control import rollbacks
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from tollhouse import cli, rollback
from tollhouse.pipeline import PipelineError, run_step
from tollhouse.postgres import EmbeddedServer, operational_url
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

WHO = Principal("operator", "x", "operator", HEADQUARTERS)
FILES = {"M-44/a": "44", "M-44/b": "44", "M-11/c": "11"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An operational database with two cycles, the first of them final."""
    folder = tmp_path_factory.mktemp("rollback")
    settings = Settings(home=folder)
    try:
        database.upgrade(settings)
        for cycle_id in ("2026-09", "2026-10"):
            ensure_cycle(settings, cycle_id, "Asia/Shanghai")
        for state in ("cut_off", "trial", "approved", "final"):
            advance_cycle(settings, "2026-09", state, "test", "test")
        yield settings
    finally:
        EmbeddedServer(folder).remove()


@pytest.fixture
def settings(home: Settings) -> Settings:
    """Three mediated files in two batches, and what hangs on them in the warehouse.

    a: usage u1 (charged twice), u2 (a long call with a part in b); b: u2, u3; c: a duplicate of u1.
    """
    with psycopg.connect(operational_url(home)) as connection:
        connection.execute("set local session_replication_role = replica")
        for table in ("rollback_file", "rollback", "usage_file", "pipeline_run"):
            connection.execute(f"delete from control.{table}")
        for file_id, province in FILES.items():
            connection.execute(
                "insert into control.usage_file (file_id, source_id, file_name, province_code,"
                " sha256, size_bytes, received_at, status, revision, batch_id,"
                " decoded_record_count) values (%s, %s, 'x', %s, %s, 1, now(), 'mediated', 1, %s,"
                " 10)",
                (file_id, file_id[:4], province, file_id,
                 "land-1" if file_id.startswith("M-44") else "land-2"),
            )  # fmt: skip
    with open_warehouse(home, "test") as warehouse:
        for statement in (
            "create or replace table mediation.record_outcome (_file_id varchar,"
            " _record_number integer, outcome varchar, usage_id varchar)",
            "insert into mediation.record_outcome values ('M-44/a', 1, 'standard', 'u1'),"
            " ('M-44/a', 2, 'standard', 'u2'), ('M-44/a', 3, 'rejected', null),"
            " ('M-44/b', 1, 'merged', 'u2'), ('M-44/b', 2, 'standard', 'u3'),"
            " ('M-44/b', 3, 'duplicate', 'u3'), ('M-11/c', 1, 'duplicate', 'u1')",
            "create or replace table billing.charge (usage_id varchar, cycle_id varchar,"
            " amount decimal(18, 6), _file_id varchar)",
            "insert into billing.charge values ('u1', '2026-10', 1.5, 'M-44/a'),"
            " ('u1', '2026-10', 0.25, 'M-44/a'), ('u2', '2026-10', 2, 'M-44/a'),"
            " ('u3', '2026-09', 4, 'M-44/b')",
            "create or replace table settlement.interconnect_entry (usage_id varchar,"
            " cycle_id varchar, amount decimal(18, 6), _file_id varchar)",
            "insert into settlement.interconnect_entry values ('u1', '2026-10', 0.06, 'M-44/a')",
        ):
            warehouse.execute(statement)
    return home


class Pipeline:
    """Stands for the pipeline: its steps take out of the warehouse what the journal took back."""

    def __init__(self, settings: Settings, dies_at: str | None = None) -> None:
        self.settings = settings
        self.dies_at = dies_at
        self.run: list[str] = []

    def step(self, name: str) -> None:
        if name == self.dies_at:
            raise KeyboardInterrupt
        self.run.append(name)
        if name != "build_marts":
            table = {"mediate": "mediation.record_outcome", "rate": "billing.charge",
                     "settle": "settlement.interconnect_entry"}[name]  # fmt: skip
            with psycopg.connect(operational_url(self.settings)) as connection:
                gone = [row[0] for row in connection.execute(
                    "select file_id from control.usage_file where status = 'rolled_back'"
                )]  # fmt: skip
            with open_warehouse(self.settings, "test") as warehouse:
                warehouse.execute(
                    f"delete from {table} where _file_id in (select unnest(?))", [gone]
                )


def journal(settings: Settings, file_id: str) -> tuple[str, int]:
    with psycopg.connect(operational_url(settings)) as connection:
        row = connection.execute(
            "select status, revision from control.usage_file where file_id = %s", (file_id,)
        ).fetchone()
    assert row is not None
    return row


def roll_back(settings: Settings, pipeline: Pipeline, **changes: Any) -> str:
    arguments: dict[str, Any] = {"principal": WHO, "scope": "file", "target": "M-44/a",
                                 "reason": "wrong clock", "run_step": pipeline.step}  # fmt: skip
    return rollback.roll_back(settings, **arguments | changes)[0]


def completed(settings: Settings, rollback_id: str) -> bool:
    with database.transaction(settings) as session:
        found = rollbacks.find_rollback(session, principal=WHO, rollback_id=rollback_id)
        return found.rollback.completed_at is not None


def test_the_plan_says_what_hangs_on_a_file_and_changes_nothing(settings: Settings) -> None:
    plan = rollback.plan_rollback(settings, principal=WHO, scope="file", target="M-44/a")
    (file,) = plan.files
    assert (file.raw_records, file.usage_records, file.charges) == (10, 2, 3)
    assert file.charge_amount == Decimal("3.75")
    assert (plan.usage_records, plan.returning_duplicates) == (2, 1)
    assert plan.cycles == {"2026-10": rollback.CycleCounts(3, Decimal("3.75"), 1, Decimal("0.06"))}
    assert plan.closed_cycles == []
    assert journal(settings, "M-44/a") == ("mediated", 1)


def test_the_pieces_of_usage_that_was_split_at_midnight_are_in_the_plan(
    settings: Settings,
) -> None:
    with open_warehouse(settings, "test") as warehouse:
        # u2, of which b has a part, goes past midnight: its second piece is in the next cycle.
        warehouse.execute(
            "create or replace table mediation.usage as select * from (values"
            " ('u1', 'M-44/a', 1, false), ('u2', 'M-44/a', 2, false), ('u2+1', 'M-44/a', 2, true),"
            " ('u3', 'M-44/b', 2, false)) as rows (usage_id, _file_id, _record_number,"
            " is_continued)"
        )
        warehouse.execute("insert into billing.charge values ('u2+1', '2026-11', 8, 'M-44/a')")
    try:
        whole = rollback.plan_rollback(settings, principal=WHO, scope="file", target="M-44/a")
        part = rollback.plan_rollback(settings, principal=WHO, scope="file", target="M-44/b")
    finally:
        with open_warehouse(settings, "test") as warehouse:
            warehouse.execute("drop table mediation.usage")
    assert whole.usage_records == 3
    assert whole.cycles["2026-11"] == rollback.CycleCounts(1, Decimal(8))
    assert (whole.files[0].charges, whole.files[0].charge_amount) == (4, Decimal("11.75"))
    assert part.cycles["2026-11"] == rollback.CycleCounts(1, Decimal(8))
    assert (part.files[0].charges, part.files[0].charge_amount) == (3, Decimal(14))


def test_usage_of_several_files_counts_once_in_the_sum(settings: Settings) -> None:
    plan = rollback.plan_rollback(settings, principal=WHO, scope="batch", target="land-1")
    assert [file.usage_records for file in plan.files] == [2, 2]
    assert plan.usage_records == 3
    assert plan.cycles["2026-10"].charge_amount == Decimal("3.75")


def test_a_file_charged_in_a_final_cycle_is_refused_and_nothing_changes(settings: Settings) -> None:
    pipeline = Pipeline(settings)
    for scope, target in (("file", "M-44/b"), ("batch", "land-1")):
        with pytest.raises(ConflictError, match=r"charged or settled in 2026-09, approved or fin"):
            roll_back(settings, pipeline, scope=scope, target=target)
    assert journal(settings, "M-44/a") == journal(settings, "M-44/b") == ("mediated", 1)
    assert pipeline.run == []


def test_a_cycle_approved_after_the_plan_is_found_in_the_same_transaction(
    settings: Settings,
) -> None:
    files = [rollbacks.FileCounts("M-44/a", 10, 2, 3, Decimal(1))]
    with pytest.raises(ConflictError, match="2026-09"):
        rollbacks.request_rollback(
            settings, principal=WHO, scope="file", target="M-44/a", reason="x", files=files,
            counts={}, cycle_ids=["2026-09"],
        )  # fmt: skip
    assert journal(settings, "M-44/a") == ("mediated", 1)


def test_a_rollback_changes_the_journal_and_the_warehouse_follows(settings: Settings) -> None:
    pipeline = Pipeline(settings)
    rollback_id = roll_back(settings, pipeline)
    assert journal(settings, "M-44/a") == ("rolled_back", 2)
    assert journal(settings, "M-44/b") == ("mediated", 1)
    assert pipeline.run == ["mediate", "rate", "settle", "build_marts"]
    assert completed(settings, rollback_id)
    with psycopg.connect(operational_url(settings)) as connection:
        audit = connection.execute(
            "select username, action, detail ->> 'reason' from identity.audit_log"
            " where entity_id = %s",
            (rollback_id,),
        ).fetchone()
        kept = connection.execute(
            "select file_id, usage_records, charge_amount from control.rollback_file"
        ).fetchall()
    assert audit == ("operator", "roll_back", "wrong clock")
    assert kept == [("M-44/a", 2, Decimal("3.750000"))]
    with pytest.raises(ConflictError, match="its state is rolled back"):
        roll_back(settings, pipeline)


def test_no_cycle_is_approved_before_the_warehouse_has_followed(settings: Settings) -> None:
    ensure_cycle(settings, "2026-11", "Asia/Shanghai")
    for state in ("cut_off", "trial"):
        advance_cycle(settings, "2026-11", state, "test", "test")
    with pytest.raises(KeyboardInterrupt):
        roll_back(settings, Pipeline(settings, dies_at="mediate"))
    with pytest.raises(ConflictError, match=r"2026-11 .*M-44/a; run `tollhouse rollback --resume`"):
        advance_cycle(settings, "2026-11", "approved", "test", "test")
    rollback.finish_rollbacks(settings, Pipeline(settings).step)
    assert advance_cycle(settings, "2026-11", "approved", "test", "test").state == "approved"


def test_nothing_is_rated_settled_or_billed_while_mediation_shows_what_was_taken_back(
    settings: Settings,
) -> None:
    with psycopg.connect(operational_url(settings)) as connection:
        connection.execute(
            "insert into control.mediation_work"
            " (batch_id, file_id, revision, is_again, is_changed)"
            " values ('mediate-1', 'M-44/a', 1, false, false) on conflict do nothing"
        )
        connection.execute(
            "insert into control.batch (batch_id, purpose, ended_at)"
            " values ('mediate-1', 'mediate', now()) on conflict do nothing"
        )
    with pytest.raises(KeyboardInterrupt):
        roll_back(settings, Pipeline(settings, dies_at="mediate"))
    for step in ("rate", "settle", "bill", "close_cycle"):
        with pytest.raises(PipelineError, match=r"M-44/a: taken back.*`tollhouse run mediate`"):
            run_step(step, settings)


@pytest.mark.parametrize("step", rollbacks.FOLLOWING_STEPS)
def test_a_rollback_killed_at_any_step_is_finished_later(settings: Settings, step: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        roll_back(settings, Pipeline(settings, dies_at=step))
    assert journal(settings, "M-44/a") == ("rolled_back", 2)
    with database.transaction(settings) as session:
        (pending,) = rollbacks.pending_rollbacks(session)
        pending_id = pending.rollback_id
    again = Pipeline(settings)
    assert rollback.finish_rollbacks(settings, again.step) == [pending_id]
    assert again.run == list(rollbacks.FOLLOWING_STEPS)
    assert completed(settings, pending_id)
    assert rollback.finish_rollbacks(settings, again.step) == []
    assert len(again.run) == 4, "there was nothing left to do"


def test_an_ordinary_run_of_the_steps_completes_a_rollback(settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        roll_back(settings, Pipeline(settings, dies_at="mediate"))
    with psycopg.connect(operational_url(settings), autocommit=True) as connection:
        for step in ("rate", *rollbacks.FOLLOWING_STEPS):
            assert rollbacks.complete_rollbacks(settings) == []
            connection.execute(
                "insert into control.pipeline_run (run_id, step, started_at, ended_at, status)"
                " values (gen_random_uuid(), %s, clock_timestamp(), clock_timestamp(),"
                " 'succeeded')",
                (step,),
            )
    assert len(rollbacks.complete_rollbacks(settings)) == 1


def test_a_warehouse_that_did_not_follow_is_an_error(settings: Settings) -> None:
    with pytest.raises(rollback.RollbackError, match=r"record_outcome still shows M-44/a"):
        roll_back(settings, Pipeline(settings), run_step=lambda _name: None)
    with database.transaction(settings) as session:
        assert len(rollbacks.pending_rollbacks(session)) == 1


def test_before_anything_is_mediated_a_file_can_be_taken_back(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        for table in ("mediation.record_outcome", "billing.charge",
                      "settlement.interconnect_entry"):  # fmt: skip
            warehouse.execute(f"drop table {table}")
    ran: list[str] = []
    roll_back(settings, Pipeline(settings), target="M-44/b", run_step=ran.append)
    assert journal(settings, "M-44/b")[0] == "rolled_back"
    assert ran == list(rollbacks.FOLLOWING_STEPS)


def test_what_cannot_be_taken_back_is_refused_with_the_reason(settings: Settings) -> None:
    pipeline = Pipeline(settings)
    with pytest.raises(NotFoundError, match="there is no file X/1"):
        roll_back(settings, pipeline, target="X/1")
    with pytest.raises(NotFoundError, match="landed in batch land-9"):
        roll_back(settings, pipeline, scope="batch", target="land-9")
    with pytest.raises(InvalidRequestError, match="give a reason"):
        roll_back(settings, pipeline, reason=" ")
    with pytest.raises(ForbiddenError):
        roll_back(settings, pipeline, principal=Principal("x", "x", "finance", HEADQUARTERS))
    with pytest.raises(NotFoundError):
        roll_back(settings, pipeline, principal=Principal("x", "x", "operator", "11"))
    assert journal(settings, "M-44/a") == ("mediated", 1)


@pytest.mark.parametrize(
    "statement",
    ["delete from control.rollback", "update control.rollback set reason = 'x'",
     "update control.rollback set completed_at = null", "truncate control.rollback cascade",
     "update control.rollback_file set charges = 0", "delete from control.rollback_file"],
)  # fmt: skip
def test_what_was_rolled_back_stays_on_record(settings: Settings, statement: str) -> None:
    roll_back(settings, Pipeline(settings))
    with (
        psycopg.connect(operational_url(settings)) as connection,
        pytest.raises(errors.RestrictViolation),
    ):
        connection.execute(statement)


def test_the_command_shows_first_and_refuses_what_is_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: settings)
    shown = CliRunner().invoke(cli.app, ["rollback", "--file", "M-44/a", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["cycles"]["2026-10"]["charge_amount"] == "3.750000"
    assert "Nothing was changed" in shown.stderr
    forbidden = CliRunner().invoke(cli.app, ["rollback", "--file", "M-44/b", "--json"])
    assert forbidden.exit_code == 1, "a script must not take it for done"
    assert json.loads(forbidden.stdout)["closed_cycles"] == ["2026-09"]
    assert "Refused" in forbidden.stderr
    refused = CliRunner().invoke(cli.app, ["rollback", "--file", "M-44/b", "--why", "x", "--yes"])
    assert refused.exit_code == 1
    assert "2026-09" in refused.stderr
    for wrong in ([], ["--file", "a", "--batch", "b"], ["--file", "M-44/a", "--yes"],
                  ["--resume", "--file", "a"]):  # fmt: skip
        assert CliRunner().invoke(cli.app, ["rollback", *wrong]).exit_code == 2
    assert journal(settings, "M-44/a") == ("mediated", 1)


def test_loading_again_asks_the_journal_and_is_in_the_audit_log(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: settings)
    monkeypatch.setattr(
        "ingestion.reload", lambda _settings, *rest: asked.append(rest), raising=False
    )
    answer = CliRunner().invoke(cli.app, ["reload", "M-44/a", "--why", "layout corrected"])
    assert answer.exit_code == 0, answer.output
    ((file_id, user, why),) = asked
    assert (file_id, why) == ("M-44/a", "layout corrected")
    with psycopg.connect(operational_url(settings)) as connection:
        noted = connection.execute(
            "select username, province_code, detail ->> 'reason' from identity.audit_log"
            " where action = 'reload'"
        ).fetchall()
    assert noted == [(user, "44", "layout corrected")]
