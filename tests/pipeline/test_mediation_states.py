"""Whatever is sent, killed, corrected, taken back and sent again: every record has one outcome.

The tables that mediation keeps by changing only what is touched are compared with what a clerk
makes of all the files that count, from scratch (`mediator`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import ingestion
from operational.control.rejects import Change, Selection, apply_change
from operational.control.rollbacks import request_rollback
from operational.permissions import Principal
from tests.pipeline.mediator import (
    OWN_LAYOUT,
    OWN_SOURCE,
    WAITS,
    Call,
    Outcome,
    SentFile,
    mediate,
    own_file,
    switch_file,
)
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.rollback import plan_rollback
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse, transform

pytestmark = pytest.mark.pipeline

OPERATOR = Principal("operator", "Operator", "operator", "00")
OLD = datetime(2026, 10, 2, tzinfo=UTC)  # calls that came so long ago do not wait any more
MODELS = (
    "mediation__mediated_file", "mediation__record", "mediation__touched_call",
    "mediation__call_record", "mediation__long_call", "mediation__repeated_record",
    "mediation__file_balance",
)  # fmt: skip

# By source: what its files are called, and how they are written.
WRITERS = {
    "MSC-44": ("MSC-44_20261001_{:06d}.cdr", switch_file),
    "OWN-44": ("OWN-44_{:06d}.txt", own_file),
}  # fmt: skip
records = st.builds(
    lambda served, other, reference, seconds, part: Call(
        served, other, reference, seconds, part, part in (0, 3)
    ),
    st.sampled_from(["8613000000001", "8613000000002", "130x", "99008613000000001"]),
    st.sampled_from(["8613912345678", "8613812345678", "110", "", "99008613912345678"]),
    st.sampled_from(["r1", "r2", "r3", ""]),
    st.sampled_from([0, 60, 61]),
    st.sampled_from([0, 0, 1, 2, 3]),
)


def write_source(folder: Path, **parameters: Any) -> None:
    """The list of sources with the user's own exchange, and parameters of it."""
    listed = {"sources": [OWN_SOURCE | parameters]}
    (folder / "sources.yaml").write_text(json.dumps(listed), encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    own = tmp_path_factory.mktemp("own")
    (own / "formats").mkdir()
    # JSON is YAML.
    (own / "formats" / "own_cdr.yaml").write_text(json.dumps(OWN_LAYOUT), encoding="utf-8")
    write_source(own)
    made = Settings(home=tmp_path_factory.mktemp("states"), sources_dir=own)
    try:
        run_step("prepare", made)
        run_step("mediate", made)  # the models that a killed run reads and does not build are there
        yield made
    finally:
        EmbeddedServer(made.home).remove()


def test_every_record_has_one_outcome_after_any_sequence_of_events(home: Settings) -> None:
    sequence = count(1)
    waits = dict(WAITS)  # as the sources are registered, from one example to the next

    class Mediation(RuleBasedStateMachine):
        """Files come, are mediated, corrected, taken back and come again; parameters change."""

        def __init__(self) -> None:
            super().__init__()
            self.live: list[SentFile] = []
            self.taken_back: list[SentFile] = []
            self.example = next(sequence)  # calls of one example never meet those of another
            self.is_mediated = True
            self.open_rejects: list[tuple[SentFile, int]] = []

        def _land(self) -> None:
            """What is collected is landed, and keeps how long its source waits by then."""
            ingestion.land(home)
            for sent in self.live:
                sent.waits = sent.waits or waits[sent.source]

        @staticmethod
        def _put(source: str, number: int, content: bytes, received_at: datetime) -> str:
            name = WRITERS[source][0].format(number)
            path = home.landing_dir / source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (received_at.timestamp(), received_at.timestamp()))
            return f"{source}/{name}"

        @rule(
            source=st.sampled_from(sorted(WRITERS)),
            calls=st.lists(records, min_size=1, max_size=6),
            age=st.integers(0, 3),
        )
        def send(self, source: str, calls: list[Call], age: int) -> None:
            """A file arrives, now or earlier than others that are mediated already."""
            mine = [
                Call(
                    call.served, call.other,
                    f"{self.example}-{call.reference}" if call.reference else "",
                    call.seconds, call.part, call.is_last,
                )
                for call in calls
            ]  # fmt: skip
            now = datetime.now(UTC).replace(microsecond=0)
            received_at = now - timedelta(minutes=30) if age == 0 else OLD + timedelta(hours=age)
            number = next(sequence)
            content = WRITERS[source][1](number, mine)
            file_id = self._put(source, number, content, received_at)
            assert file_id in ingestion.collect(home).collected
            self.live.append(SentFile(file_id, received_at, mine))
            self.is_mediated = False

        @precondition(lambda self: self.live)
        @rule(data=st.data())
        def send_again(self, data: st.DataObject) -> None:
            """The same content under another name: a duplicate file, which changes nothing."""
            sent = data.draw(st.sampled_from(self.live))
            content = (home.landing_dir / sent.file_id).read_bytes()
            self._put(sent.source, next(sequence), content, sent.received_at)
            assert ingestion.collect(home).duplicate

        @rule(hours=st.sampled_from([1, 87_600]), days=st.integers(1, 90), is_split=st.booleans())
        def change_parameters(self, hours: int, days: int, is_split: bool) -> None:
            """The exchange gets others: for how long its parts are waited counts of files to come.

            All calls begin in one moment of the morning, whatever its window and midnight are.
            """
            assert home.sources_dir is not None
            write_source(
                home.sources_dir, long_call_timeout_hours=hours, duplicate_window_days=days,
                split_at_midnight=is_split,
            )  # fmt: skip
            ingestion.register_sources(home)
            waits["OWN-44"] = timedelta(hours=hours)

        @precondition(lambda self: not self.is_mediated)
        @rule(built=st.integers(0, len(MODELS)))
        def mediate_and_die(self, built: int) -> None:
            """A run is killed when so many of its models are built."""
            self._land()
            ingestion.take_up(home)
            ingestion.extract(home, tables=ingestion.CONTROL_TABLES)
            models = ["mediation__work_file", *MODELS[:built]]
            transform(home, models, command="run")

        @precondition(lambda self: not self.is_mediated)
        @rule()
        def run(self) -> None:
            """Everything that waits is landed and mediated, and held against the clerk's books."""
            self._land()
            run_step("mediate", home)
            self.is_mediated = True
            self._compare()

        @precondition(lambda self: self.open_rejects)
        @rule(data=st.data(), served=st.booleans())
        def correct(self, data: st.DataObject, served: bool) -> None:
            """A person corrects a rejected record, right or wrong, or only recycles it."""
            sent, number = data.draw(st.sampled_from(self.open_rejects))
            field, value = (
                ("served_msisdn", "8613000000001") if served else ("other_party", "8613912345678")
            )
            values = data.draw(st.sampled_from([{}, {field: value}]))
            apply_change(
                home, principal=OPERATOR, reason="test", change=Change(values),
                selection=Selection(file_id=sent.file_id, record_number=number),
            )  # fmt: skip
            sent.corrections[number] = sent.corrections.get(number, {}) | values
            self.open_rejects.remove((sent, number))
            self.is_mediated = False

        @precondition(lambda self: self.live)
        @rule(data=st.data())
        def take_back(self, data: st.DataObject) -> None:
            """A file is rolled back, whether it was mediated or not."""
            self._land()
            sent = data.draw(st.sampled_from(self.live))
            plan = plan_rollback(home, principal=OPERATOR, scope="file", target=sent.file_id)
            request_rollback(
                home, principal=OPERATOR, scope="file", target=sent.file_id, reason="test",
                files=plan.files, counts=plan.as_document(), cycle_ids=list(plan.cycles),
            )  # fmt: skip
            self.live.remove(sent)
            self.taken_back.append(sent)
            self.open_rejects = [each for each in self.open_rejects if each[0] is not sent]
            self.is_mediated = False

        @precondition(lambda self: self.taken_back)
        @rule(data=st.data())
        def reload(self, data: st.DataObject) -> None:
            """A file that was rolled back is taken in again from the archive, once that is done."""
            sent = data.draw(st.sampled_from(self.taken_back))
            if sent.file_id in ingestion.unfollowed_files(home):
                with pytest.raises(ingestion.ReloadError, match="tollhouse run mediate"):
                    ingestion.reload(home, sent.file_id, who="operator", reason="test")
                return
            ingestion.reload(home, sent.file_id, who="operator", reason="test")
            sent.corrections.clear()  # they were of the records of the former landing
            sent.waits = None
            self.taken_back.remove(sent)
            self.live.append(sent)
            self.is_mediated = False

        def teardown(self) -> None:
            if not self.is_mediated:
                self.run()

        def _compare(self) -> None:
            ids = [sent.file_id for sent in self.live + self.taken_back]
            outcomes, usage = mediate(self.live, self._began())
            listed = ", ".join(f"'{file_id}'" for file_id in ids) or "''"
            with open_warehouse(home, "compare") as warehouse:
                found = {
                    (file_id, number): Outcome(outcome, reason)
                    for file_id, number, outcome, reason in warehouse.rows(
                        "select _file_id, _record_number, outcome, reason_code"
                        f" from mediation.record_outcome where _file_id in ({listed})"
                    )
                }
                used = Counter(
                    warehouse.rows(
                        "select served_msisdn, other_party, duration_seconds, partial_count,"
                        f" is_incomplete from mediation.usage where _file_id in ({listed})"
                    )
                )
                balances = {
                    row[0]: row[1:]
                    for row in warehouse.rows(
                        "select file_id, raw_count, standard_count, merged_count, duplicate_count,"
                        " rejected_count, filtered_count from mediation.file_balance"
                        f" where file_id in ({listed})"
                    )
                }
                rejected = set(
                    warehouse.rows(
                        "select _file_id, _record_number from mediation.rejected_record"
                        f" where _file_id in ({listed})"
                    )
                )
            assert found == outcomes
            assert used == usage
            assert balances == {
                sent.file_id: (len(sent.calls), *self._counts(outcomes, sent)) for sent in self.live
            }
            expected = {record for record, each in outcomes.items() if each.outcome == "rejected"}
            assert rejected == expected
            self.open_rejects = [
                (sent, number) for sent in self.live for number in range(1, len(sent.calls) + 1)
                if (sent.file_id, number) in expected
            ]  # fmt: skip

        @staticmethod
        def _counts(outcomes: dict[tuple[str, int], Outcome], sent: SentFile) -> tuple[int, ...]:
            mine = Counter(
                outcomes[sent.file_id, number].outcome for number in range(1, len(sent.calls) + 1)
            )
            names = ("standard", "merged", "duplicate", "rejected", "filtered")
            return tuple(mine[name] for name in names)

        @staticmethod
        def _began() -> datetime:
            with connect(home) as connection:
                (began,) = connection.execute(
                    "select max(started_at) from control.batch where purpose = 'mediate'"
                ).fetchone() or (None,)
            assert isinstance(began, datetime)
            return began.astimezone(UTC)

    run_state_machine_as_test(
        Mediation,
        settings=settings(
            max_examples=5,
            stateful_step_count=14,
            database=None,
            # A step takes seconds: a failure is shown as it was found.
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_the_clerk_sees_what_the_models_are_asked_for(tmp_path: Path) -> None:
    """The clerk's own books are right in a case told by hand."""
    sent = [
        SentFile("MSC-44/b", OLD, [Call("8613000000001", "8613912345678", "r", 60, 2, False)]),
        SentFile(
            "MSC-44/a", OLD + timedelta(hours=1),
            [
                Call("8613000000001", "8613912345678", "r", 7, 1, False),
                Call("8613000000001", "8613912345678", "r", 9, 2, True),
                Call("130x", "8613912345678", "s", 9),
            ],
        ),
    ]  # fmt: skip
    outcomes, usage = mediate(sent, OLD + timedelta(days=9))
    assert outcomes == {
        ("MSC-44/b", 1): Outcome("merged"), ("MSC-44/a", 1): Outcome("standard"),
        ("MSC-44/a", 2): Outcome("duplicate"),
        ("MSC-44/a", 3): Outcome("rejected", "invalid_msisdn"),
    }  # fmt: skip
    assert usage == Counter({("8613000000001", "8613912345678", 67, 2, True): 1})
