"""Loading operational tables from parquet files."""

from __future__ import annotations

import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operational.loading import TABLES, LoadError, load_tables
from tollhouse.settings import Settings

NUMBER = {"msisdn": "8618577770001", "province_code": "44", "status": "free"}


def write(folder: Path, table: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{table}.parquet")
    return folder


def subscription(**changes: Any) -> dict[str, Any]:
    begins = datetime.fromisoformat("2026-02-01T00:00:00+00:00")
    return {
        "subscription_id": "S8000001", "account_id": "A0000001", "msisdn": "8618577770009",
        "imsi": None, "service_type": "mobile", "payment_type": "postpaid", "status": "active",
        "valid_from": begins, "valid_to": None, "province_code": "44",
    } | changes  # fmt: skip


def count(psql: Any, query: str) -> int:
    with psql() as connection:
        return int(connection.execute(query).fetchone()[0])


def test_loading_the_same_files_again_inserts_nothing(operational: Settings, psql: Any) -> None:
    before = count(psql, "select count(*) from crm.customer")
    assert load_tables(operational, operational.home / "seed") == dict.fromkeys(TABLES, 0)
    assert count(psql, "select count(*) from crm.customer") == before


def test_rows_already_there_stay_as_they_are(
    operational: Settings, psql: Any, tmp_path: Path
) -> None:
    load_tables(operational, write(tmp_path, "resource.msisdn", [NUMBER]))
    write(tmp_path, "resource.msisdn", [NUMBER | {"status": "reserved"}])
    assert load_tables(operational, tmp_path) == {"resource.msisdn": 0}
    with psql() as connection:
        status = connection.execute(
            "select status from resource.msisdn where msisdn = %s", (NUMBER["msisdn"],)
        ).fetchone()
    assert status == ("free",)


def test_a_number_with_two_owners_is_an_error_and_nothing_is_loaded(
    operational: Settings, psql: Any, tmp_path: Path
) -> None:
    write(tmp_path, "resource.msisdn", [NUMBER | {"msisdn": "8618577770002"}])
    write(tmp_path, "crm.subscription", [subscription(msisdn="8618600000001")])
    with pytest.raises(LoadError, match=r"crm\.subscription\.parquet.*one_subscription_per_msisdn"):
        load_tables(operational, tmp_path)
    assert count(psql, "select count(*) from resource.msisdn where msisdn = '8618577770002'") == 0


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("crm.nothing", NUMBER, "no loadable table for crm.nothing"),
        ("resource.msisdn", NUMBER | {"colour": "red"}, "has no column colour"),
        (
            "crm.subscription",
            subscription(valid_from=datetime(2026, 2, 1)),  # noqa: DTZ001 - what is refused
            "time zone",
        ),
        (
            "billing.payment",
            {"payment_id": "x", "amount": 0.1},
            "exact decimals",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    operational: Settings, tmp_path: Path, table: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(LoadError, match=message):
        load_tables(operational, write(tmp_path, table, [row]))


CUSTOMER = {
    "customer_id": "C8000001", "customer_type": "individual", "name": "欧阳保密",
    "id_number": "440101199912310099", "segment": None, "province_code": "44",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"customer_type": "alien"}, r"customer_customer_type_check"),
        ({"province_code": None}, r'null value in column "province_code"'),
        ({"province_code": "欧阳保密"}, r"customer_province_code_check"),
        ({"name": "欧阳保密\x00"}, r"crm\.customer\.parquet"),
    ],
)
def test_a_refused_row_is_not_repeated_in_the_message(
    operational: Settings, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = write(tmp_path, "crm.customer", [CUSTOMER | changes])
    with pytest.raises(LoadError, match=reason) as raised:
        load_tables(operational, folder)
    logged = "".join(traceback.format_exception(raised.value))
    assert "欧阳保密" not in logged
    assert "440101199912310099" not in logged


def test_a_value_of_another_type_is_not_repeated_in_the_message(
    operational: Settings, tmp_path: Path
) -> None:
    row = subscription(valid_from="欧阳保密")
    with pytest.raises(LoadError, match=r"crm\.subscription\.valid_from takes") as raised:
        load_tables(operational, write(tmp_path, "crm.subscription", [row]))
    assert "欧阳保密" not in "".join(traceback.format_exception(raised.value))


def test_an_empty_folder_is_refused(operational: Settings, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no <schema>"):
        load_tables(operational, tmp_path)
