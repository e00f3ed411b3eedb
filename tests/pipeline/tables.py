"""Reading whole layers of a warehouse for comparison, whatever engine it is on."""

from __future__ import annotations

from typing import Any

from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

COMPARED_SCHEMAS = ("ods", "mediation", "billing", "settlement", "mid", "dm")
# When and in which batch a row was loaded is the run's affair, not the carrier's.
OF_THE_RUN = {
    "_batch_id", "_loaded_at", "batch_id", "collected_at", "landed_at", "created_at", "updated_at",
    "data_as_of", "published_at", "mediated_at", "processing_microseconds", "processing_seconds",
    "records_per_second", "mean_collection_seconds", "mean_landing_seconds",
    "mean_mediation_seconds",
}  # fmt: skip
# So is what a mediation run has in hand, and which run it is; and when the rules were loaded.
TABLES_OF_THE_RUN = {
    "ods.batch", "ods.mediation_work", "mediation.work_file", "mediation.touched_call",
    "mediation.call_record",
}  # fmt: skip
# What rating and billing work with for the cycles that are open: a final cycle has no more of it.
TABLES_OF_OPEN_CYCLES = {
    f"billing.{name}"
    for name in (
        "allowance_access", "band_period", "billed_cycle", "charged_item", "cycle_clock",
        "dirty_line", "discount", "discount_order", "guiding_change", "guiding_fact", "guided_fact",
        "backdated_line", "kept_draw", "kept_total", "late_usage", "payment_order", "payment_share",
        "plan_in_cycle", "rating_input",
    )
}  # fmt: skip
LOADED_WITH_THE_RULES = ("ods.validation_rule", "valid_from")
# Every engine has hashes of its own, and those of files tell which run judged them.
OF_THE_ENGINE = (
    ("billing.rated_line", "digest"), ("billing.rated_line", "usage_digest"),
    ("mediation.usage_file", "digest"),
)  # fmt: skip

Rows = list[tuple[Any, ...]]


def tables_of(settings: Settings, schemas: tuple[str, ...] = COMPARED_SCHEMAS) -> dict[str, Rows]:
    """Every table of the given schemas as sorted rows, without columns that are of the run."""
    found: dict[str, Rows] = {}
    with open_warehouse(settings, "compare tables") as warehouse:
        columns = warehouse.rows(
            "select table_schema, table_name, column_name from information_schema.columns"
            " where table_catalog = 'warehouse' order by table_schema, table_name, column_name"
        )
        tables: dict[str, list[str]] = {}
        for schema, table, column in columns:
            name = f"{schema}.{table}"
            if name in TABLES_OF_THE_RUN | TABLES_OF_OPEN_CYCLES:
                continue
            if (name, column) in (LOADED_WITH_THE_RULES, *OF_THE_ENGINE):
                continue
            if schema in schemas and column not in OF_THE_RUN:
                tables.setdefault(name, []).append(column)
        for table, names in tables.items():
            selected = ", ".join(f'cast("{name}" as varchar)' for name in names)
            found[table] = sorted(
                warehouse.rows(f"select {selected} from {table}"),
                key=lambda row: tuple((value is not None, value) for value in row),
            )
    return found


def differences(left: dict[str, Rows], right: dict[str, Rows]) -> list[str]:
    """One line for each table that is not the same on both sides."""
    lines = [f"only on one side: {table}" for table in sorted(left.keys() ^ right.keys())]
    for table in sorted(left.keys() & right.keys()):
        if left[table] != right[table]:
            only_left = sorted(set(left[table]) - set(right[table]), key=str)[:2]
            only_right = sorted(set(right[table]) - set(left[table]), key=str)[:2]
            lines.append(
                f"{table}: {len(left[table])} and {len(right[table])} rows; "
                f"only left {only_left}; only right {only_right}"
            )
    return lines
