"""The landing edge: is what has just been landed the files it claims to be?

Single bad records are mediation's business, which rejects each with its reason. Here files are
looked at as wholes, before mediation: a file whose layout, clock or content has shifted would
otherwise become a flood of rejects, or worse, of plausible nonsense. SQL counts per file what looks
wrong; the suite says how much of it is tolerable.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from psycopg.types.json import Jsonb

from expectations.report import (
    CRITICAL,
    NAMED_FILES,
    WARNING,
    ExpectationOutcome,
    ExpectationReport,
    LandingRejectedError,
)
from tollhouse.file_reasons import INCOMPLETE
from tollhouse.postgres import connect
from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

WAIT_S = 600.0
RAW_TABLE = "raw.usage_record"
ARCHIVE_SUFFIX = ".zst"  # of originals, as collecting writes them

# A file may have this many odd records for any one reason, and this share of its records on top.
TOLERATED_RECORDS = 10
TOLERATED_SHARE = 0.05
# A record that started longer ago than this was not held back but misread (the settlement window of
# roaming files is 30 days); nothing starts after its file arrived, save for a clock's zone.
OLDEST_DAYS, NEWEST_DAYS = 45, 1

SERVICES = ("voice", "sms", "mms", "data", "vas")
# A number as received: E.164, national with 0 before it, or behind an international prefix.
NUMBER = "[+]?[0-9]{3,18}"

logger = logging.getLogger(__name__)


def check_landing(settings: Settings, wait_s: float = WAIT_S) -> ExpectationReport:
    """Hold the files that are landed and not yet mediated against the landing suite.

    Warnings are logged and returned. Files that break a critical expectation are refused: the
    journal says `rejected` and why, so their records do not count any more, and their originals go
    to the quarantine folder; the next run goes on without them.

    Raises:
        LandingRejectedError: files were refused; the message names them and what to do.
        WarehouseBusyError: another process writes the warehouse.
    """
    files = _landed_files(settings)
    if files.empty:
        return ExpectationReport(0, ())
    with open_warehouse(settings, "check landed files", wait_s) as warehouse:
        frame = _describe(warehouse, files)
    report = ExpectationReport(len(frame), tuple(_validate(frame)))
    refused = _refuse(settings, report.criticals)
    for outcome in report.warnings:
        logger.warning("%s", outcome)
    if report.criticals:
        originals = [str(_quarantined(settings, file_id)) for file_id in refused[:NAMED_FILES]]
        if len(refused) > NAMED_FILES:
            more = len(refused) - NAMED_FILES
            originals.append(f"and {more} more below {settings.quarantine_dir}")
        raise LandingRejectedError(
            "landed files are not fit for mediation:\n  "
            + "\n  ".join(str(outcome) for outcome in report.criticals)
            + "\nThey are refused: the journal says rejected and why, their records do not count,"
            " and the next run goes on without them. Their originals are\n  "
            + "\n  ".join(originals)
            + "\nCorrected files may be sent under new names."
        )
    return report


def _quarantined(settings: Settings, file_id: str) -> Path:
    return settings.quarantine_dir / f"{file_id}{ARCHIVE_SUFFIX}"


def _refuse(settings: Settings, criticals: Sequence[ExpectationOutcome]) -> list[str]:
    """Reject the files that break an expectation, then quarantine their originals.

    After a kill in between, the next collection does what was not done.
    """
    reasons: dict[str, list[tuple[str, str]]] = {}
    for outcome in criticals:
        for file_id, number in outcome.failures.items():
            reasons.setdefault(file_id, []).append(
                (
                    f"{outcome.title_zh}：{number}（{outcome.name}）",
                    f"{outcome.title_en}: {number} ({outcome.name})",
                )
            )
    if not reasons:
        return []
    with connect(settings) as connection:
        rows = connection.execute(
            "select file_id from control.usage_file where file_id = any(%s) and status = 'landed'"
            " order by file_id for update",
            (list(reasons),),
        ).fetchall()
        refused = [str(file_id) for (file_id,) in rows]
        for file_id in refused:
            connection.execute(
                "update control.usage_file set status = 'rejected', status_reason_code = 'unfit',"
                " status_reason_values = %s where file_id = %s",
                (
                    Jsonb(
                        {
                            "findings_zh": "；".join(zh for zh, _ in reasons[file_id]),
                            "findings_en": "; ".join(en for _, en in reasons[file_id]),
                            "path": str(_quarantined(settings, file_id)),
                        }
                    ),
                    file_id,
                ),
            )
    for file_id in refused:
        target = _quarantined(settings, file_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (settings.archive_dir / f"{file_id}{ARCHIVE_SUFFIX}").replace(target)
    return refused


def _landed_files(settings: Settings) -> pd.DataFrame:
    columns = [
        "file_id", "batch_id", "received_at", "declared_record_count", "decoded_record_count",
        "is_incomplete",
    ]  # fmt: skip
    with connect(settings) as connection:
        rows = connection.execute(
            "select file_id, coalesce(batch_id, ''), received_at at time zone 'UTC',"
            " declared_record_count, decoded_record_count,"
            " coalesce(status_reason_code = any(%s), false)"
            " from control.usage_file where status = 'landed'",
            (list(INCOMPLETE),),
        ).fetchall()
    return pd.DataFrame(rows, columns=columns)


def _describe(warehouse: Warehouse, files: pd.DataFrame) -> pd.DataFrame:
    """One row a file: its counts, and how many of its records look odd in which way.

    Only the batches in hand are read: their names stand in the query as text, by which the engine
    passes over all other parts. Records of a type that is not rated have no service, and are held
    only to being decodable.
    """
    batches = ", ".join(f"'{batch}'" for batch in sorted(set(files["batch_id"])))
    services = ", ".join(f"'{service}'" for service in SERVICES)
    warehouse.connection.register("_landed", files)
    try:
        # Local time stands in for UTC: the window is a matter of days.
        return warehouse.frame(
            f"""
            with judged as (
                select
                    rec._file_id as file_id,
                    rec._decode_error is not null as is_undecodable,
                    rec._decode_error is null and (
                        rec.service is not null or rec.record_type is null
                    ) as is_usage,
                    coalesce(rec.service, '') not in ({services}) as is_unknown_service,
                    not coalesce(
                        regexp_full_match(nullif(rec.served_msisdn, ''), '{NUMBER}'),
                        coalesce(rec.served_imsi, '') <> ''
                    ) as is_odd_msisdn,
                    not coalesce(
                        rec.started_local between
                        fil.received_at - interval {OLDEST_DAYS} day
                        and fil.received_at + interval {NEWEST_DAYS} day,
                        false
                    ) as is_out_of_window
                from {RAW_TABLE} as rec
                inner join _landed as fil
                    on rec._file_id = fil.file_id and rec._batch_id = fil.batch_id
                where rec._batch_id in ({batches})
            ),

            counted as (
                select
                    file_id,
                    count(*) as record_count,
                    count(*) filter (is_undecodable) as undecodable_count,
                    count(*) filter (is_usage and is_unknown_service) as unknown_service_count,
                    count(*) filter (is_usage and is_odd_msisdn) as odd_msisdn_count,
                    count(*) filter (is_usage and is_out_of_window)
                        as out_of_window_count
                from judged
                group by file_id
            )

            select
                fil.file_id,
                coalesce(cnt.record_count, 0) as record_count,
                coalesce(fil.decoded_record_count, 0) as journalled_count,
                coalesce(cnt.undecodable_count, 0) as undecodable_count,
                coalesce(cnt.unknown_service_count, 0) as unknown_service_count,
                coalesce(cnt.odd_msisdn_count, 0) as odd_msisdn_count,
                coalesce(cnt.out_of_window_count, 0) as out_of_window_count,
                coalesce(abs(fil.declared_record_count - coalesce(cnt.record_count, 0)), 0)
                    as miscounted_count,
                cast(fil.is_incomplete as bigint) as incomplete_count,
                {TOLERATED_RECORDS}
                + cast(floor({TOLERATED_SHARE} * coalesce(cnt.record_count, 0)) as bigint)
                    as tolerated_count
            from _landed as fil
            left join counted as cnt on fil.file_id = cnt.file_id
            order by fil.file_id
            """  # noqa: S608 - made of the constants above
        )
    finally:
        warehouse.connection.unregister("_landed")


# What is counted -> its name in Chinese and English. Each has a critical expectation (no file has
# more than is tolerated) and a warning (no file has any).
ODDITIES = {
    "undecodable_count": ("无法解码的记录", "records that cannot be decoded"),
    "unknown_service_count": ("未知业务类型的记录", "records of an unknown service"),
    "odd_msisdn_count": ("计费号码异常的记录", "records whose served number is no number"),
    "out_of_window_count": (
        "开始时间不合理的记录",
        f"records not started in the {OLDEST_DAYS} days before the file arrived",
    ),
    "miscounted_count": (
        "与文件声明的条数之差",
        "records more or less than the file declares",
    ),
}


def landing_suite() -> ExpectationSuite:
    """The suite over the frame of `_describe`: one row a file."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # no telemetry leaves the machine
    import great_expectations as gx  # noqa: PLC0415 - takes seconds; only this step needs it

    known: Any = importlib.import_module("great_expectations.expectations")
    expectations = [
        known.ExpectColumnPairValuesToBeEqual(
            column_A="record_count", column_B="journalled_count",
            meta=_meta(
                "rows_are_those_journalled", CRITICAL, "record_count",
                "入库条数与文件日志不符", "rows landed are not those the journal counted",
            ),
        ),
        known.ExpectColumnValuesToBeBetween(
            column="record_count", min_value=1,
            meta=_meta("has_records", WARNING, "record_count", "空文件", "files without a record"),
        ),
        known.ExpectColumnValuesToBeBetween(
            column="incomplete_count", max_value=0,
            meta=_meta(
                "is_complete", WARNING, "incomplete_count",
                "缺少结尾、可能不完整的文件", "files without their end, which may lack records",
            ),
        ),
    ]  # fmt: skip
    for column, (title_zh, title_en) in ODDITIES.items():
        expectations += [
            known.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="tolerated_count", column_B=column, or_equal=True,
                meta=_meta(
                    f"{column}_is_tolerable", CRITICAL, column,
                    f"{title_zh}过多", f"too many {title_en}",
                ),
            ),
            known.ExpectColumnValuesToBeBetween(
                column=column, max_value=0,
                meta=_meta(f"{column}_is_zero", WARNING, column, title_zh, title_en),
            ),
        ]  # fmt: skip
    return gx.ExpectationSuite("landing", expectations=expectations)


def _meta(name: str, severity: str, column: str, title_zh: str, title_en: str) -> dict[str, str]:
    """What the report needs of an expectation; `column` is the count that is reported."""
    return {
        "name": name,
        "severity": severity,
        "column": column,
        "title_zh": title_zh,
        "title_en": title_en,
    }


def _validate(frame: pd.DataFrame) -> Iterable[ExpectationOutcome]:
    suite = landing_suite()  # first: it tells Great Expectations to keep quiet before its import
    import great_expectations as gx  # noqa: PLC0415
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("landing")
        .add_dataframe_asset("files")
        .add_batch_definition_whole_dataframe("landed")
        .get_batch({"dataframe": frame})
    )
    outcome = batch.validate(
        suite,
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["file_id"],
        },
    )
    counts = frame.set_index("file_id").to_dict("index")
    for result in outcome.results:
        yield _outcome(result, counts)


def _outcome(result: Any, counts: Mapping[Any, Mapping[Any, Any]]) -> ExpectationOutcome:
    meta = result.expectation_config.meta
    if result.exception_info.get("raised_exception"):
        raise LandingRejectedError(
            f"expectation {meta['name']} could not be evaluated:"
            f" {result.exception_info.get('exception_message')}"
        )
    failing = [] if result.success else result.result["unexpected_index_list"]
    ids = [entry["file_id"] for entry in failing]
    return ExpectationOutcome(
        name=meta["name"],
        severity=meta["severity"],
        title_zh=meta["title_zh"],
        title_en=meta["title_en"],
        failures={file_id: int(counts[file_id][meta["column"]]) for file_id in ids},
    )
