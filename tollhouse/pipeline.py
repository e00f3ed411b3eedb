"""The pipeline, defined once: named steps with explicit inputs, for the command line and the DAGs.

Every step may be run twice and killed anywhere: running it again ends in the same tables. Importing
this module is cheap; a step imports what it needs when it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tollhouse.settings import Settings, get_settings

if TYPE_CHECKING:
    from operational.billing.service import PublishResult

Counts = dict[str, Any]
Progress = Callable[[str], None]

WAIT_FOR_WRITER_S = 600.0
SHOWN_FILES = 5  # of many, in a message
SHOWN_FINDINGS = 50  # of one kind, of a collection


class PipelineError(RuntimeError):
    """A step could not do its work; the message says what is wrong and what to do."""


class ControlTotalError(PipelineError):
    """A control total does not tie: nothing after this point may be trusted."""


@dataclass(frozen=True)
class Step:
    """One named step: what it is called, what it reads and makes, and how it is run."""

    name: str
    title_en: str
    title_zh: str
    reads: str
    makes: str
    run: Callable[[Settings, Progress], Counts]


STEPS: dict[str, Step] = {}

# The main job on simulated input.
DEMO_JOB: tuple[str, ...] = (
    "prepare", "simulate", "collect", "land", "check_landing", "mediate", "audit", "rate", "bill",
    "deduct", "settle", "build_marts", "score", "close_cycle", "publish", "report",
)  # fmt: skip

# How a scheduler runs a step: one at a time, as there is one writer, and again after a failure.
TASK_DEFAULTS: dict[str, Any] = {
    "owner": "tollhouse",
    "pool": "warehouse_writer",
    "retries": 2,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
}


def run_step(
    name: str, settings: Settings | None = None, on_progress: Progress | None = None
) -> Counts:
    """Run one step and return its counts (plain JSON values).

    The run is recorded in ``control.pipeline_run`` with its outcome; runs that were killed since
    are recorded as such.

    Raises:
        KeyError: there is no step of that name.
        PipelineError: and the named errors of the rooms: what went wrong and what to do.
    """
    settings = settings or get_settings()
    step = STEPS[name]
    run_id = _record_start(settings, name)
    try:
        counts = step.run(settings, on_progress or _silent)
    except BaseException as error:
        _record_end(settings, run_id, "failed", {"error": f"{type(error).__name__}: {error}"})
        raise
    counts = {key: _plain(value) for key, value in counts.items()}
    _record_end(settings, run_id, "succeeded", counts)
    return counts


def _step(
    name: str, title_en: str, title_zh: str, *, reads: str, makes: str
) -> Callable[[Callable[[Settings, Progress], Counts]], Callable[[Settings, Progress], Counts]]:
    def register(
        function: Callable[[Settings, Progress], Counts],
    ) -> Callable[[Settings, Progress], Counts]:
        STEPS[name] = Step(name, title_en, title_zh, reads, makes, function)
        return function

    return register


@_step(
    "prepare", "Prepare databases", "准备数据库",
    reads="settings, shipped catalogue and agreements",
    makes="operational schema, first user, catalogue, rules, cycle, sources, number plan, "
    "reference data, empty raw tables, ods",
)  # fmt: skip
def _prepare(settings: Settings, _on_progress: Progress) -> Counts:
    import ingestion
    import ml
    from operational.billing.service import ensure_cycle
    from operational.catalogue.service import load_sample
    from operational.control.rules import load_rules
    from operational.database import upgrade
    from operational.identity.service import ensure_admin
    from operational.settlement.service import load_agreements
    from tollhouse.warehouse import check_reference_data, open_warehouse

    check_reference_data()
    upgrade(settings)
    ensure_admin(settings)
    counts: Counts = load_sample(settings) | load_agreements(settings)
    counts |= load_rules(settings)
    ensure_cycle(settings, settings.cycle, settings.timezone)
    counts["sources"] = ingestion.register_sources(settings)
    with open_warehouse(settings, "prepare raw tables", WAIT_FOR_WRITER_S) as warehouse:
        ingestion.create_raw_tables(warehouse, settings)
        counts["number_ranges"] = ingestion.load_number_plan(warehouse)
        ml.create_raw_table(warehouse)
    with _writing(settings, "prepare ods"):
        ingestion.extract(settings)
        _transform(settings, ["tag:ods"], _silent)
    return counts


@_step(
    "open_cycle", "Open the month's cycle", "开帐",
    reads="billing cycles, today's date",
    makes="an open cycle for each month after the newest, up to this one",
)  # fmt: skip
def _open_cycle(settings: Settings, _on_progress: Progress) -> Counts:
    from operational.accounts.service import local_today
    from operational.billing.service import open_cycles_until

    return {"opened": open_cycles_until(settings, local_today(settings))}


@_step(
    "simulate", "Simulate a carrier", "模拟运营商",
    reads="seed, number of subscribers, cycle",
    makes="raw files in the landing folder, a truth file, customers and payments",
)  # fmt: skip
def _simulate(settings: Settings, on_progress: Progress) -> Counts:
    from operational import loading
    from tollhouse.simulator import TRUTH_FILE, Truth, parameters_of, simulate

    former = Truth.read(settings.seed_dir / TRUTH_FILE)
    if former is not None and former.parameters != parameters_of(settings):
        raise PipelineError(
            f"{settings.home} holds another simulated carrier ({former.parameters}): "
            "delete it with `tollhouse clean`, or set TOLLHOUSE_HOME to a new folder"
        )
    truth = simulate(settings, on_progress=on_progress)
    rows = loading.load_tables(settings, settings.seed_dir / "operational")
    return {
        "raw_records": truth.totals["raw_records"],
        "files": truth.totals["files"],
        "operational_rows": sum(rows.values()),
    }


@_step(
    "collect", "Collect files", "采集处理",
    reads="landing folders", makes="file journal, archive of originals",
)  # fmt: skip
def _collect(settings: Settings, _on_progress: Progress) -> Counts:
    import ingestion

    result = ingestion.collect(settings)
    return {
        "collected": len(result.collected),
        "duplicate": len(result.duplicate),
        "rejected": len(result.rejected),
        "unfinished": len(result.unfinished),
        "skipped": len(result.skipped),
        "unreachable": len(result.unreachable),
        "unknown_folders": len(result.unknown_folders),
        "alarms": len(result.alarms),
        "known": result.known,
        "cleared_away": result.cleared_away,
        "findings": [
            *_shown("refused 已拒收", _of_files(result.rejected)),
            *_shown("unreachable 无法连接", list(result.unreachable.values())),
            *_shown("skipped 已跳过", list(result.skipped.values())),
            *_shown("left behind 未能清除", list(result.left_behind.values())),
            *_shown(
                "unknown folder 未登记的目录",
                [
                    f"{settings.landing_dir / name}: no source is called so; its files are not"
                    " taken in: list the source, or remove the folder"
                    for name in result.unknown_folders
                ],
            ),
        ],
    }


def _of_files(reasons: Mapping[str, str]) -> list[str]:
    return [f"{file_id}: {reason}" for file_id, reason in reasons.items()]


def _shown(kind: str, reasons: Sequence[str]) -> list[str]:
    """The reasons of one kind as lines, of very many the first."""
    lines = [f"{kind}: {reason}" for reason in reasons[:SHOWN_FINDINGS]]
    if len(reasons) > SHOWN_FINDINGS:
        lines.append(f"{kind}: … {len(reasons) - SHOWN_FINDINGS:,} more 另有")
    return lines


@_step(
    "land", "Decode and land", "解码入库",
    reads="collected files", makes="raw tables, one row a record",
)  # fmt: skip
def _land(settings: Settings, on_progress: Progress) -> Counts:
    import ingestion

    result = ingestion.land(
        settings, on_progress=lambda done, all_files: on_progress(f"{done} of {all_files} files")
    )
    return {
        "files": result.files,
        "records": result.records,
        "undecodable_records": sum(result.decode_errors.values()),
        "rejected_files": len(result.rejected),
        "left_files": len(result.unavailable),
        "peak_mb": result.peak_mb,
        "findings": [
            *_shown("refused 已拒收", _of_files(result.rejected)),
            *_shown("left 暂不可读", _of_files(result.unavailable)),
        ],
    }


@_step(
    "check_landing", "Check landed data", "入库质量检查",
    reads="landed files not yet mediated", makes="data quality findings",
)  # fmt: skip
def _check_landing(settings: Settings, _on_progress: Progress) -> Counts:
    from expectations.landing import check_landing

    report = check_landing(settings)
    return {
        "expectations": len(report.outcomes),
        "warnings": len(report.warnings),
        "findings": [str(finding) for finding in report.warnings],
    }


@_step(
    "extract", "Extract operational tables", "数据抽取",
    reads="operational database", makes="raw copies of its tables",
)  # fmt: skip
def _extract(settings: Settings, _on_progress: Progress) -> Counts:
    import ingestion

    rows = ingestion.extract(settings)
    return {"tables": len(rows), "rows": sum(rows.values())}


@_step(
    "mediate", "Mediate: validate, de-duplicate, merge, standardise", "预处理",
    reads="raw records of files that are new, corrected or rolled back",
    makes="mediation.usage and one outcome per raw record",
)  # fmt: skip
def _mediate(settings: Settings, on_progress: Progress) -> Counts:
    import ingestion
    from operational.control.rejects import publish_rejects
    from tollhouse.warehouse import open_warehouse

    counts: Counts = {"runs": 0, "files": 0, "records": 0}
    has_more = True
    with _writing(settings, "mediate"):
        while has_more:
            run = ingestion.take_up(settings)
            ingestion.extract(settings, tables=ingestion.CONTROL_TABLES)
            _transform(settings, ["tag:mediation"], on_progress, exclude=["tag:audit"])
            with open_warehouse(settings, "publish rejects") as warehouse:
                rejects = warehouse.batches(_REJECTS_IN_HAND)
                publish_rejects(settings, rejects, batch_id=run.batch_id)
            ingestion.finish(settings, run)
            counts["runs"] += 1
            counts["files"] += run.files
            counts["records"] += run.records
            has_more = run.has_more
    sums = ", ".join(f"coalesce(sum({outcome}_count), 0)" for outcome in _OUTCOMES)
    (row,) = _rows(settings, f"select {sums} from mediation.file_balance")  # noqa: S608
    return counts | dict(zip(_OUTCOMES, row, strict=True))


_REJECTS_IN_HAND = """
select * from mediation.rejected_record
where _file_id in (select file_id from mediation.work_file)
"""
_OUTCOMES = ("duplicate", "filtered", "merged", "rejected", "standard")


@_step(
    "audit", "Audit mediation", "预处理稽核",
    reads="every raw record's outcome, usage, ods",
    makes="an error if a record has no outcome or two, its usage measures something else, or a "
    "row of ods is there twice",
)  # fmt: skip
def _audit(settings: Settings, on_progress: Progress) -> Counts:
    return _transform(settings, ["tag:audit", "tag:ods"], on_progress, command="test")


@_step(
    "rate", "Rate usage", "批价",
    reads="mediation.usage, catalogue, subscriptions, payments",
    makes="billing.charge, suspense, running bills of open cycles",
)  # fmt: skip
def _rate(settings: Settings, on_progress: Progress) -> Counts:
    with _writing(settings, "rate"):
        _require_followed(settings)
        counts = _build(settings, ["tag:billing"], on_progress)
    (row,) = _rows(settings, _CHARGES)
    return counts | {"charges": row[0], "charge_amount": row[1]}


# What view `billing.charge` shows one by one, counted where it is kept.
_CHARGES = """
select cast(sum(charges) as bigint), sum(amount)
from (
    select count(*) as charges, coalesce(sum(amount), 0) as amount from billing.usage_charge
    union all
    select count(*), coalesce(sum(amount), 0) from billing.recurring_charge
    union all
    select count(*), coalesce(sum(amount), 0) from billing.one_off_charge
    union all
    select 0, -coalesce(sum(drawn_amount), 0) from billing.money_draw
) as kept
"""


@_step(
    "deduct", "Deduct from prepaid balances", "预付费扣费",
    reads="billing.prepaid_charge, balances of prepaid accounts",
    makes="deductions in the receivables ledger, notices of low balances, barring and restoring",
)  # fmt: skip
def _deduct(settings: Settings, _on_progress: Progress) -> Counts:
    from operational.accounts import prepaid
    from operational.accounts.service import local_today
    from tollhouse.warehouse import open_warehouse

    # Under the lock until it is posted: what was read last is what is posted last.
    with _writing(settings, "deduct"):
        with open_warehouse(settings, "read prepaid charges") as warehouse:
            if not warehouse.has_table("billing.prepaid_charge"):
                raise PipelineError("nothing is rated yet: run `tollhouse run rate`, then this")
            charges = warehouse.arrow(
                "select * from billing.prepaid_charge where cycle_id in"
                " (select cycle_id from ods.billing_cycle where state <> 'final')"
            )
        done = prepaid.deduct(
            settings, charges=charges, by_user="deduct", today=local_today(settings)
        )
    return asdict(done)


@_step(
    "bill", "Bill the cycle", "出帐",
    reads="billing.charge, payments", makes="trial bills; the cycle goes to trial",
)  # fmt: skip
def _bill(settings: Settings, on_progress: Progress) -> Counts:
    import ingestion

    counts: Counts = {}
    _require_followed(settings)
    cycle = _cycle_in_hand(settings)
    state = _advance(settings, cycle, ("open", "cut_off"), reason="billing run")
    if state in ("cut_off", "trial"):
        with _writing(settings, "bill"):
            _require_followed(settings)
            # What is charged stands since `rate`: the customers and cycles that it saw stay.
            ingestion.extract(settings, tables=ingestion.PAYMENT_TABLES)
            models = ["billing__prepaid_charge", "billing__bill", "billing__bill_movement"]
            counts = _transform(settings, models, on_progress)
        state = _advance(settings, cycle, ("cut_off", "trial"), reason="billing run")
    (row,) = _rows(
        settings,
        "select count(*), coalesce(sum(charge_amount), 0) from billing.bill"  # noqa: S608 - a month
        f" where cycle_id = '{cycle}'",
    )
    return counts | {
        "cycle": cycle, "cycle_state": state, "bills": row[0], "billed_amount": row[1],
    }  # fmt: skip


@_step(
    "settle", "Settle with other operators", "结算",
    reads="mediation.usage, agreements", makes="settlement entries and statements",
)  # fmt: skip
def _settle(settings: Settings, on_progress: Progress) -> Counts:
    with _writing(settings, "settle"):
        _require_followed(settings)
        counts = _build(settings, ["tag:settlement"], on_progress)
    (row,) = _rows(settings, "select count(*), coalesce(sum(amount), 0) from settlement.statement")
    return counts | {"statements": row[0], "settled_amount": row[1]}


@_step(
    "build_marts", "Build MID and DM", "构建数据集市",
    reads="ods, mediation, billing, settlement", makes="mid and dm",
)  # fmt: skip
def _build_marts(settings: Settings, on_progress: Progress) -> Counts:
    return _build(settings, ["tag:mid", "tag:dm"], on_progress)


@_step(
    "score", "Score churn and value", "流失预警与客户价值",
    reads="dm.subscription_day, dm.subscription_month",
    makes="raw.customer_score and, from it, dm.customer_score; model cards",
)  # fmt: skip
def _score(settings: Settings, on_progress: Progress) -> Counts:
    import ml

    result = ml.score(settings.model_copy(update={"cycle": _cycle_in_hand(settings)}))
    counts: Counts = {
        "scores": result.scored, "mode": result.mode, "run_id": result.run_id,
    }  # fmt: skip
    return counts | _transform(settings, ["mid__fct_customer_score+"], on_progress)


@_step(
    "reconcile", "Reconcile control totals", "稽核",
    reads="dm.control_total", makes="an error if one does not tie",
)  # fmt: skip
def _reconcile(settings: Settings, _on_progress: Progress) -> Counts:
    totals = control_totals(settings)
    if not totals:
        raise ControlTotalError("there are no control totals: run `tollhouse run build_marts`")
    broken = [total for total in totals if not total["is_tied"]]
    if broken:
        lines = "\n  ".join(
            f"{total['hop']}, {total['measure']}: {total['left_name']} {total['left_value']}"
            f" is not {total['right_name']} {total['right_value']}"
            for total in broken
        )
        raise ControlTotalError(f"control totals that do not tie:\n  {lines}")
    return {"control_totals": len(totals), "tied": len(totals)}


@_step(
    "close_cycle", "Approve and close the cycle", "帐期关闭",
    reads="prepaid charges, dm.control_total, the cycle's state",
    makes="a final cycle, which nothing changes any more; an error if a total does not tie",
)  # fmt: skip
def _close_cycle(settings: Settings, on_progress: Progress) -> Counts:
    with _writing(settings, "close the cycle"):
        _require_followed(settings)
        _deduct(settings, on_progress)
        totals_and_read = ["+dm__control_total,tag:mid", "+dm__control_total,tag:dm"]
        _build(settings, totals_and_read, on_progress)
        totals = _reconcile(settings, on_progress)
        cycle = _cycle_in_hand(settings)
        state = _advance(
            settings, cycle, ("trial", "approved", "final"), reason="control totals tie"
        )
        _build(settings, ["mid__dim_cycle"], on_progress)
    if state != "final":
        raise PipelineError(
            f"cycle {cycle} is '{state}', so it cannot be closed: run `tollhouse run bill` first"
        )
    return {"cycle": cycle, "cycle_state": state} | totals


@_step(
    "publish", "Publish marts, bills and scores", "发布",
    reads="dm",
    makes="schema dm, bills and scores in PostgreSQL, the receivables ledger; the analysts' copy",
)  # fmt: skip
def _publish(settings: Settings, _on_progress: Progress) -> Counts:
    from operational.accounts.service import post as post_accounts
    from operational.control.rollbacks import complete_rollbacks
    from operational.crm.service import publish_scores
    from tollhouse.warehouse import open_warehouse, publish_analyst_copy, publish_schema

    with _writing(settings, "publish"):
        published = _publish_bills(settings)
        with open_warehouse(settings, "read scores") as warehouse:
            scores = warehouse.table("dm.customer_score")
        posted = post_accounts(settings, by_user="publish")
        published_scores = publish_scores(settings, scores=scores)
        complete_rollbacks(settings)
        served = publish_schema(settings, "dm")
        publish_analyst_copy(settings)
    return {
        "served_tables": len(served),
        "served_rows": sum(served.values()),
        "bills_written": published.bills_written,
        "bills_unchanged": published.bills_unchanged,
        "payments_posted": posted.payments,
        "allocated_amount": posted.allocated_amount,
        "scores": published_scores,
    }


def _publish_bills(settings: Settings) -> PublishResult:
    """Publish bills of final cycles, and of those on trial for whoever decides on them.

    What is published on trial is owed by nobody, and replaced by what is published next.
    """
    from operational.billing.service import publish_bills
    from tollhouse.warehouse import open_warehouse

    with open_warehouse(settings, "read bills") as warehouse:
        stale = warehouse.rows(
            "select count(*) from billing.bill as bill"
            " left join dm.bill as mart on mart.bill_id = bill.bill_id"
            " where mart.content_hash is distinct from bill.content_hash"
        )[0][0]
        if stale:
            raise PipelineError(
                f"the marts are older than {stale} of the bills: run `tollhouse run build_marts`"
            )
        bills, items = warehouse.table("dm.bill"), warehouse.table("dm.bill_item")
        movements = warehouse.table("billing.bill_movement")
    states = _cycle_states(settings)
    shown = [cycle for cycle, state in states.items() if state in ("trial", "final")]
    return publish_bills(
        settings, bills=_of_cycles(bills, shown), items=_of_cycles(items, shown),
        movements=_of_cycles(movements, shown),
    )  # fmt: skip


@_step(
    "report", "Write the KPI report", "经营月报",
    reads="schema dm in PostgreSQL", makes="one HTML file",
)  # fmt: skip
def _report(settings: Settings, _on_progress: Progress) -> Counts:
    from tollhouse.kpi_report import write_kpi_report

    return {"report": str(write_kpi_report(settings, _cycle_in_hand(settings)))}


@_step(
    "post_accounts", "Post into the receivables ledger", "入帐销帐",
    reads="final bills, payments, funds",
    makes="ledger entries; open items paid from what is there",
)  # fmt: skip
def _post_accounts(settings: Settings, _on_progress: Progress) -> Counts:
    from operational.accounts import service

    return asdict(service.post(settings, by_user="post_accounts"))


@_step(
    "late_fees", "Charge late fees", "违约金",
    reads="open items that are overdue",
    makes="late fees of every day not charged yet, up to yesterday; each day once",
)  # fmt: skip
def _late_fees(settings: Settings, _on_progress: Progress) -> Counts:
    from operational.accounts import collection, service

    today = service.local_today(settings)  # not charged yet: who pays today pays nothing for it
    done = collection.run_late_fees(
        settings, through=today - timedelta(days=1), today=today, by_user="late_fees"
    )
    return asdict(done)


@_step(
    "dun", "Dun who owes", "催缴与停复机",
    reads="open items that are overdue, dunning steps",
    makes="one step an account and day; barring and restoring orders",
)  # fmt: skip
def _dun(settings: Settings, _on_progress: Progress) -> Counts:
    from operational.accounts import collection, service

    today = service.local_today(settings)
    done = collection.dun(settings, on_day=today, today=today, by_user="dun")
    return {
        **done.actions, "orders": done.orders, "restored": done.restored,
        "applied_amount": done.applied_amount, "written_off_amount": done.written_off_amount,
    }  # fmt: skip


@_step(
    "maintain", "Maintain the warehouse", "数据仓库维护",
    reads="the warehouse file", makes="the same file without the space of dropped tables",
)  # fmt: skip
def _maintain(settings: Settings, _on_progress: Progress) -> Counts:
    import ingestion
    from tollhouse.warehouse import compact

    retained = ingestion.retain(settings)
    before, after = compact(settings, WAIT_FOR_WRITER_S)
    return asdict(retained) | {"bytes_before": before, "bytes_after": after}


def control_totals(settings: Settings) -> list[dict[str, Any]]:
    """The control totals of every hop, in order, as rows of ``dm.control_total``."""
    names = (
        "hop_number", "hop", "measure", "unit", "left_name", "left_value", "right_name",
        "right_value", "difference", "is_tied",
    )  # fmt: skip
    rows = _rows(
        settings,
        f"select {', '.join(names)} from dm.control_total order by hop_number, measure",  # noqa: S608
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def month_totals(settings: Settings, cycle_id: str) -> list[dict[str, Any]]:
    """The control totals of a cycle from raw file to ledger export, in rows like those above."""
    from operational.billing.totals import month_totals as totals_of
    from operational.permissions import administrator

    return [
        asdict(total) | {"difference": total.difference, "is_tied": total.is_tied}
        for total in totals_of(settings, principal=administrator("command line"), cycle_id=cycle_id)
    ]


def compare_with_truth(settings: Settings) -> list[tuple[str, int, int]]:
    """What the simulator injected beside what the pipeline found: (name, injected, found).

    Raises:
        PipelineError: the input was not simulated.
    """
    from tollhouse.simulator import TRUTH_FILE, Truth

    truth = Truth.read(settings.seed_dir / TRUTH_FILE)
    if truth is None:
        raise PipelineError("the input was not simulated, so there is no truth to compare with")
    found = dict(_rows(settings, _FOUND))
    totals = truth.totals
    injected = {
        name: totals[name]
        for name in (
            "files", "duplicate_files", "late_files", "count_mismatch_files", "sequence_gaps",
            "raw_records", "standard", "merged", "duplicate", "rejected", "filtered",
            "incomplete_long_calls", "unknown_subscriber", "voice_seconds", "octets",
        )
    }  # fmt: skip
    for kind in ("rejected", "filtered"):
        for reason, count in totals[f"{kind}_by_reason"].items():
            injected[f"{kind}: {reason}"] = count
    names = [*injected, *(name for name in found if name not in injected)]
    return [(name, int(injected.get(name, 0)), int(found.get(name, 0))) for name in names]


# Each line: a name of the truth file and what the warehouse says of it.
_FOUND = """
select 'files', count(*) from ods.usage_file
union all select 'duplicate_files', count(*) from ods.usage_file where status = 'duplicate'
union all select 'late_files', count(*) from mediation.file_balance where is_late
union all select 'count_mismatch_files', count(*) from mediation.file_balance
    where has_count_mismatch
union all select 'sequence_gaps', coalesce(sum(missing_count), 0) from mediation.sequence_gap
union all select 'raw_records', count(*) from mediation.record_outcome
union all select outcome, count(*) from mediation.record_outcome group by outcome
union all select outcome || ': ' || reason_code, count(*) from mediation.record_outcome
    where outcome in ('rejected', 'filtered') group by outcome, reason_code
union all select 'incomplete_long_calls', count(*) from mediation.usage where is_incomplete
union all select 'unknown_subscriber', count(*) from billing.suspended_usage
    where reason_code = 'no_subscription'
union all select 'voice_seconds', coalesce(sum(duration_seconds), 0) from mediation.usage
    where service = 'voice'
union all select 'octets', coalesce(sum(uplink_octets + downlink_octets), 0) from mediation.usage
"""


def _transform(
    settings: Settings, select: Sequence[str], on_progress: Progress, *, command: str = "build",
    exclude: Sequence[str] = (),
) -> Counts:  # fmt: skip
    from tollhouse.warehouse import transform

    result = transform(
        settings, select, command=command, exclude=exclude, on_node=on_progress,
        wait_s=WAIT_FOR_WRITER_S,
    )  # fmt: skip
    return {"nodes": result.succeeded, "warnings": result.warned}


def _build(settings: Settings, select: Sequence[str], on_progress: Progress) -> Counts:
    """Extract, which brings ods up to date, and build the selected models, with their tests.

    All under one lock, so that every model sees the same state of customers and cycles.
    """
    import ingestion

    with _writing(settings, f"build {' '.join(select)}"):
        ingestion.extract(settings)
        return _transform(settings, select, on_progress)


def _require_followed(settings: Settings) -> None:
    """Raise PipelineError while mediation still shows files that were taken back."""
    import ingestion

    if files := ingestion.unfollowed_files(settings):
        more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
        raise PipelineError(
            f"{', '.join(files[:SHOWN_FILES])}{more}: taken back, but mediation still shows what"
            " they said; run `tollhouse run mediate`, then this again"
        )


def _writing(settings: Settings, purpose: str) -> AbstractContextManager[None]:
    from tollhouse.warehouse import writer_lock

    return writer_lock(settings, purpose, WAIT_FOR_WRITER_S)


def _rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    from tollhouse.warehouse import open_warehouse

    with open_warehouse(settings, "read counts", WAIT_FOR_WRITER_S) as warehouse:
        return warehouse.rows(query)


def _of_cycles(rows: Any, cycles: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return rows.filter(pc.is_in(rows["cycle_id"], value_set=pa.array(cycles, pa.string())))


def _cycle_states(settings: Settings) -> dict[str, str]:
    from operational.billing.service import list_cycles
    from operational.database import transaction

    with transaction(settings) as session:
        return {cycle.cycle_id: cycle.state for cycle in list_cycles(session)}


def _cycle_in_hand(settings: Settings) -> str:
    from operational.accounts.service import local_today
    from operational.billing.service import cycle_in_hand

    return cycle_in_hand(settings, local_today(settings))


def _advance(settings: Settings, cycle_id: str, states: Sequence[str], *, reason: str) -> str:
    """Take a cycle along these states as far as it goes; returns where it then is."""
    from operational.billing.service import advance_cycle

    state = _cycle_states(settings)[cycle_id]
    for current, following in pairwise(states):
        if state == current:
            advance_cycle(settings, cycle_id, following, "pipeline", reason)
            state = following
    return state


def _record_start(settings: Settings, step: str) -> str | None:
    from tollhouse.postgres import connect
    from tollhouse.services.processes import this_process

    run_id = uuid4().hex
    with connect(settings) as connection:
        if connection.execute("select to_regclass('control.pipeline_run')").fetchone() == (None,):
            return None  # before the first `prepare` there is no table to record it in
        connection.execute(
            "insert into control.pipeline_run (run_id, step, started_at, status, detail)"
            " values (%s, %s, now(), 'running', %s)",
            (run_id, step, json.dumps({"process": this_process()})),
        )
    _record_killed(settings)
    return run_id


def _record_killed(settings: Settings) -> None:
    """Note the end of runs whose process is gone without having noted it."""
    import psycopg

    from tollhouse.postgres import connect
    from tollhouse.services.processes import has_ended

    with suppress(psycopg.errors.CheckViolation), connect(settings) as connection:
        # A database from before this state was known refuses it, until `prepare` has migrated it.
        rows = connection.execute(
            "select run_id, detail -> 'process' from control.pipeline_run"
            " where status = 'running' for update skip locked"
        ).fetchall()
        dead = [run_id for run_id, process in rows if process is None or has_ended(process)]
        connection.execute(
            "update control.pipeline_run set status = 'killed', ended_at = now(), detail = detail"
            """ || '{"error": "its process ended without a word, as one does that is killed"}'"""
            " where run_id = any(%s)",
            (dead,),
        )


def _record_end(
    settings: Settings, run_id: str | None, status: str, detail: Mapping[str, Any]
) -> None:
    from tollhouse.postgres import connect

    if run_id is None:
        return
    with connect(settings) as connection:
        connection.execute(
            "update control.pipeline_run set ended_at = now(), status = %s, detail = %s"
            " where run_id = %s",
            (status, json.dumps(detail), run_id),
        )


def _plain(value: Any) -> Any:
    """The value as something JSON holds exactly: decimals become text."""
    return str(value) if isinstance(value, Decimal) else value


def _silent(_message: str) -> None:
    return
