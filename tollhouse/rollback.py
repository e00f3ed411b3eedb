"""Taking files back 回退: what hangs on them, and having the warehouse follow the journal.

The journal is changed first, in one transaction; then the pipeline's own steps build everything
without the files. A rollback that is killed in between is finished by the next one, or by the next
ordinary run of those steps: it is complete when they have come to their end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from operational.control.models import UsageFile
from operational.control.rollbacks import (
    FOLLOWING_STEPS,
    CycleCounts,
    FileCounts,
    closed_cycles,
    complete_rollbacks,
    files_to_roll_back,
    mark_complete,
    pending_rollbacks,
    raw_records_gone,
    request_rollback,
    rolled_back_files,
)  # fmt: skip
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError
from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse, writer_lock

RunStep = Callable[[str], object]

WAIT_FOR_WRITER_S = 600.0
_TABLES_BY_FILE = ("mediation.record_outcome", "billing.charge", "settlement.interconnect_entry")


class RollbackError(RuntimeError):
    """The warehouse still shows files that were taken back; the message says which."""


@dataclass(frozen=True)
class RollbackPlan:
    """What a rollback would take back; `closed_cycles` are those that forbid it.

    Usage put together from several files counts for each of them, and once in `usage_records`.
    """

    scope: str
    target: str
    files: list[FileCounts]
    usage_records: int = 0
    returning_duplicates: int = 0  # records of other files that repeat one of these
    cycles: dict[str, CycleCounts] = field(default_factory=dict)
    closed_cycles: list[str] = field(default_factory=list)

    def as_document(self) -> dict[str, Any]:
        """The sums, as they are kept with the rollback; amounts as text, so that they are exact."""
        return {
            "files": len(self.files),
            "raw_records": sum(file.raw_records for file in self.files),
            "usage_records": self.usage_records,
            "returning_duplicates": self.returning_duplicates,
            "cycles": {
                cycle_id: {
                    name: str(value) if isinstance(value, Decimal) else value
                    for name, value in asdict(counts).items()
                }
                for cycle_id, counts in self.cycles.items()
            },
        }


def plan_rollback(
    settings: Settings, *, principal: Principal, scope: str, target: str
) -> RollbackPlan:
    """Find what hangs on a file, or on the files landed in a batch; changes nothing.

    Raises:
        NotFoundError: there is no such file or batch.
        ConflictError: nothing of it can be taken back.
        WarehouseBusyError: another process writes the warehouse.
    """
    with open_warehouse(settings, "plan a rollback", WAIT_FOR_WRITER_S) as warehouse:
        with transaction(settings) as session:
            files = files_to_roll_back(session, principal=principal, scope=scope, target=target)
        _require_raw(warehouse, files)
        plan = _counted(warehouse, scope, target, files)
        with transaction(settings) as session:
            plan.closed_cycles.extend(closed_cycles(session, list(plan.cycles)))
    return plan


def roll_back(
    settings: Settings, *, principal: Principal, scope: str, target: str, reason: str,
    run_step: RunStep,
) -> tuple[str, RollbackPlan]:  # fmt: skip
    """Take a file or a batch back, and have the warehouse follow.

    What hangs on the files is counted again, while nobody else writes the warehouse. Usage that is
    charged or settled in a cycle that was approved stays, and with it the whole file.

    Args:
        settings: says where.
        principal: who wants it.
        scope: `file` or `batch`.
        target: the id of the file, or of the batch it was landed in.
        reason: why; kept.
        run_step: runs a step of the pipeline by name.

    Returns:
        The id of the rollback, and what it took back.

    Raises:
        ConflictError: a cycle is closed, or a file changed meanwhile; nothing was changed.
        RollbackError: the warehouse did not follow.
    """
    with writer_lock(settings, "roll back", WAIT_FOR_WRITER_S):
        plan = plan_rollback(settings, principal=principal, scope=scope, target=target)
        if plan.closed_cycles:
            raise ConflictError(
                "cycle_closed_to_rollback", target=target, cycles=plan.closed_cycles
            )
        rollback_id = request_rollback(
            settings, principal=principal, scope=scope, target=target, reason=reason,
            files=plan.files, counts=plan.as_document(), cycle_ids=list(plan.cycles),
        )  # fmt: skip
    finish_rollbacks(settings, run_step)
    return rollback_id, plan


def finish_rollbacks(settings: Settings, run_step: RunStep) -> list[str]:
    """Have the warehouse follow every rollback it has not followed yet; returns their ids.

    Safe to call at any time, and again after a kill. Raises RollbackError if it did not follow.
    """
    followed = complete_rollbacks(settings)
    with transaction(settings) as session:
        pending = [rollback.rollback_id for rollback in pending_rollbacks(session)]
    if not pending:
        return followed
    for step in FOLLOWING_STEPS:
        run_step(step)
    _require_gone(settings, pending)
    mark_complete(settings, pending)
    return followed + pending


def _require_raw(warehouse: Warehouse, files: Sequence[UsageFile]) -> None:
    """Raise ConflictError if raw records of a file are gone: mediation could not follow."""
    mediated = {
        file.file_id: file.decoded_record_count
        for file in files if file.status == "mediated" and file.decoded_record_count
    }  # fmt: skip
    if not mediated or not warehouse.has_table("raw.usage_record"):
        return
    kept = dict(
        warehouse.rows(
            "select _file_id, count(*) from raw.usage_record"
            " where _batch_id in (select unnest(?)) and _file_id in (select unnest(?))"
            " group by _file_id",
            [sorted({file.batch_id or "" for file in files}), sorted(mediated)],
        )
    )
    gone = [file_id for file_id, count in mediated.items() if kept.get(file_id, 0) < count]
    if gone:
        raise raw_records_gone(gone)


def _counted(
    warehouse: Warehouse, scope: str, target: str, files: Sequence[UsageFile]
) -> RollbackPlan:
    ids = [file.file_id for file in files]
    usage: dict[str, int] = {}
    charged: dict[str, tuple[int, Decimal]] = {}
    plan_of: dict[str, Any] = {"usage_records": 0, "returning_duplicates": 0, "cycles": {}}
    if warehouse.has_table("mediation.record_outcome"):
        warehouse.execute(
            "create or replace temp table rolled_usage as"
            " select distinct _file_id as file_id, usage_id"
            " from mediation.record_outcome"
            " where _file_id in (select unnest(?)) and outcome in ('standard', 'merged')"
            " and usage_id is not null",
            [ids],
        )
        if warehouse.has_table("mediation.usage"):
            # A usage that was split at midnight is several, with ids of their own.
            warehouse.execute(
                "insert into rolled_usage"
                " select rolled.file_id, piece.usage_id"
                " from rolled_usage as rolled"
                " join mediation.record_outcome as whole"
                " on whole.usage_id = rolled.usage_id"
                " and whole.outcome = 'standard'"
                " join mediation.usage as piece on piece._file_id = whole._file_id"
                " and piece._record_number = whole._record_number"
                " where piece.is_continued"
            )
        usage = dict(warehouse.rows("select file_id, count(*) from rolled_usage group by file_id"))
        plan_of["usage_records"] = warehouse.rows(
            "select count(distinct usage_id) from rolled_usage"
        )[0][0]
        plan_of["returning_duplicates"] = warehouse.rows(
            "select count(*) from mediation.record_outcome where outcome = 'duplicate'"
            " and usage_id in (select usage_id from rolled_usage)"
            " and _file_id not in (select unnest(?))",
            [ids],
        )[0][0]
        plan_of["cycles"] = _by_cycle(warehouse)
        charged = _by_file(warehouse)
        warehouse.execute("drop table rolled_usage")
    return RollbackPlan(
        scope=scope, target=target,
        files=[
            FileCounts(
                file.file_id, file.decoded_record_count or 0, usage.get(file.file_id, 0),
                *charged.get(file.file_id, (0, Decimal(0))),
            )
            for file in files
        ],
        **plan_of,
    )  # fmt: skip


def _by_cycle(warehouse: Warehouse) -> dict[str, CycleCounts]:
    found: dict[str, CycleCounts] = {}
    if warehouse.has_table("billing.charge"):
        for cycle_id, count, amount in warehouse.rows(
            "select cycle_id, count(*), sum(amount) from billing.charge"
            " where usage_id in (select usage_id from rolled_usage)"
            " group by cycle_id order by cycle_id"
        ):
            counts = found.setdefault(cycle_id, CycleCounts())
            counts.charges, counts.charge_amount = count, amount
    if warehouse.has_table("settlement.interconnect_entry"):
        for cycle_id, count, amount in warehouse.rows(
            "select cycle_id, count(*), sum(amount) from settlement.interconnect_entry"
            " where usage_id in (select usage_id from rolled_usage)"
            " group by cycle_id order by cycle_id"
        ):
            counts = found.setdefault(cycle_id, CycleCounts())
            counts.settlement_entries, counts.settlement_amount = count, amount
    return dict(sorted(found.items()))


def _by_file(warehouse: Warehouse) -> dict[str, tuple[int, Decimal]]:
    if not warehouse.has_table("billing.charge"):
        return {}
    rows = warehouse.rows(
        "select rolled.file_id, count(*), sum(charge.amount) from billing.charge as charge"
        " join rolled_usage as rolled on charge.usage_id = rolled.usage_id"
        " group by rolled.file_id"
    )
    return {file_id: (count, amount) for file_id, count, amount in rows}


def _require_gone(settings: Settings, rollback_ids: Sequence[str]) -> None:
    """Raise RollbackError if a file that is still taken back has usage or charges."""
    with transaction(settings) as session:
        ids = rolled_back_files(session, rollback_ids)
    with open_warehouse(settings, "check a rollback", WAIT_FOR_WRITER_S) as warehouse:
        for table in _TABLES_BY_FILE:
            if not warehouse.has_table(table):
                continue
            left = warehouse.rows(
                f"select distinct _file_id from {table}"  # noqa: S608 - names from above
                " where _file_id in (select unnest(?)) order by 1 limit 5",
                [ids],
            )
            if left:
                names = ", ".join(file_id for (file_id,) in left)
                raise RollbackError(
                    f"{table} still shows {names}: run `tollhouse rollback --resume`; if it stays,"
                    " rebuild with `tollhouse run mediate rate settle build_marts`"
                )
