"""Taking a file back, and correcting a record, reach the bills and the settlement."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from operational.control.rejects import Change, Selection, apply_change
from operational.permissions import Principal
from operational.problems import ConflictError
from tests.pipeline.tables import differences, tables_of
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.rollback import roll_back
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

pytestmark = pytest.mark.pipeline

OPERATOR = Principal("operator", "Operator", "operator", "00")
BUILD = ("mediate", "rate", "settle", "build_marts")
# What follows from records; the journal itself remembers the file that was taken back.
FOLLOWING = ("mediation", "billing", "settlement")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Settings]]:
    """A carrier whose files all came, and the same carrier without one of them."""
    whole, without = (
        Settings(home=tmp_path_factory.mktemp(name), subscribers=60, days=12)
        for name in ("whole", "without")
    )
    try:
        for settings in (whole, without):
            for step in ("prepare", "simulate"):
                run_step(step, settings)
        (without.landing_dir / _file_with_company(whole)).unlink()
        for settings in (whole, without):
            for step in ("collect", "land", *BUILD):
                run_step(step, settings)
        yield whole, without
    finally:
        for settings in (whole, without):
            EmbeddedServer(settings.home).remove()


def _file_with_company(settings: Settings) -> str:
    """A switch file in the middle of the month, so that its calls have copies and parts around."""
    files = sorted((settings.landing_dir / "MSC-44").glob("*.cdr"))
    return f"MSC-44/{files[len(files) // 2].name}"


def test_after_a_rollback_it_is_as_if_the_file_had_never_been_there(
    homes: tuple[Settings, Settings],
) -> None:
    whole, without = homes
    file_id = _file_with_company(whole)
    before = tables_of(whole, FOLLOWING)
    expected = tables_of(without, FOLLOWING)
    assert differences(before, expected)  # the file mattered

    roll_back(
        whole, principal=OPERATOR, scope="file", target=file_id, reason="test",
        run_step=partial(run_step, settings=whole),
    )  # fmt: skip

    assert not differences(tables_of(whole, FOLLOWING), expected)
    with connect(whole) as connection:
        assert connection.execute(
            "select requested_by, completed_at is not null from control.rollback"
        ).fetchall() == [("operator", True)]


def test_a_corrected_record_is_charged(homes: tuple[Settings, Settings]) -> None:
    _, settings = homes
    with open_warehouse(settings, "test") as warehouse:
        ((file_id, number, received),) = warehouse.rows(
            "select _file_id, _record_number, raw_record from mediation.rejected_record"
            " where reason_code = 'invalid_msisdn' order by 1, 2 limit 1"
        )
        ((msisdn,),) = warehouse.rows(
            "select max(usage.served_msisdn) from billing.guided_usage as guided"
            " join mediation.usage as usage"
            " on guided.usage_id = usage.usage_id"
        )
    apply_change(
        settings, principal=OPERATOR, reason="mistyped", change=Change({"served_msisdn": "86187"}),
        selection=Selection(file_id=file_id, record_number=number),
    )  # fmt: skip
    run_step("mediate", settings)
    with open_warehouse(settings, "test") as warehouse:
        assert warehouse.rows(
            "select served_msisdn, raw_record from mediation.rejected_record"
            " where _file_id = ? and _record_number = ?",
            [file_id, number],
        ) == [("86187", received)], "what was received is shown beside what it was corrected to"
    apply_change(
        settings, principal=OPERATOR, reason="number of the contract",
        change=Change({"served_msisdn": msisdn}),
        selection=Selection(file_id=file_id, record_number=number),
    )  # fmt: skip
    for step in BUILD:
        run_step(step, settings)
    with open_warehouse(settings, "test") as warehouse:
        assert warehouse.rows(
            "select outcome from mediation.record_outcome"
            " where _file_id = ? and _record_number = ?",
            [file_id, number],
        ) == [("standard",)]
        assert warehouse.rows(
            "select count(*) from mediation.usage as usage"
            " join billing.guided_usage as guided"
            " on guided.usage_id = usage.usage_id"
            " where usage._file_id = ? and usage._record_number = ? and usage.served_msisdn = ?",
            [file_id, number, msisdn],
        ) == [(1,)]
        assert not warehouse.rows("select * from dm.control_total where not is_tied")


def test_a_file_whose_usage_is_billed_final_is_not_taken_back(
    homes: tuple[Settings, Settings],
) -> None:
    whole, _ = homes
    for step in ("bill", "close_cycle"):
        run_step(step, whole)
    other = sorted(path.name for path in (whole.landing_dir / "MSC-44").glob("*.cdr"))[0]
    before = tables_of(whole, FOLLOWING)
    with pytest.raises(ConflictError, match="2026-10"):
        roll_back(
            whole, principal=OPERATOR, scope="file", target=f"MSC-44/{other}", reason="test",
            run_step=partial(run_step, settings=whole),
        )  # fmt: skip
    assert not differences(tables_of(whole, FOLLOWING), before)


def test_a_file_whose_raw_records_are_gone_is_not_taken_back(
    homes: tuple[Settings, Settings],
) -> None:
    _, settings = homes
    for part in settings.raw_dir.glob("_batch_id=land-*/*.parquet"):
        part.unlink()
    file_id = f"MSC-44/{min(path.name for path in (settings.landing_dir / 'MSC-44').iterdir())}"
    with pytest.raises(ConflictError, match=file_id):
        roll_back(
            settings, principal=OPERATOR, scope="file", target=file_id, reason="test",
            run_step=partial(run_step, settings=settings),
        )  # fmt: skip
