"""The simulator writes the same carrier again for the same parameters, and nothing half."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from operational.crm.service import service_type_of
from tollhouse.settings import Settings
from tollhouse.simulator import Truth, simulate

DAYS = 3


def carrier(home: Path, *, seed: int = 7, subscribers: int = 120) -> Settings:
    return Settings(home=home, subscribers=subscribers, days=DAYS, seed=seed)


def fingerprint(home: Path) -> dict[str, tuple[str, int]]:
    """Digest and modification time of every file below a home."""
    return {
        str(path.relative_to(home)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(home.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("simulated")
    simulate(carrier(home))
    return home


def test_the_same_parameters_give_the_same_bytes_and_times_in_another_process(
    home: Path, tmp_path: Path
) -> None:
    program = (
        "from pathlib import Path\n"
        "from tollhouse.settings import Settings\n"
        "from tollhouse.simulator import simulate\n"
        f"simulate(Settings(home=Path({str(tmp_path)!r}), subscribers=120, days={DAYS}, seed=7))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": "4711", "TZ": "America/New_York"},
    )
    assert fingerprint(tmp_path) == fingerprint(home)


def test_another_seed_gives_other_records_in_every_raw_file(home: Path, tmp_path: Path) -> None:
    simulate(carrier(tmp_path, seed=8))
    digests = {digest for digest, _ in fingerprint(home / "landing").values()}
    others = {digest for digest, _ in fingerprint(tmp_path / "landing").values()}
    assert digests.isdisjoint(others)


def test_a_second_run_does_nothing_and_returns_the_same_truth(tmp_path: Path) -> None:
    truth = simulate(carrier(tmp_path))
    marked = next((tmp_path / "landing" / "MSC-44").iterdir())
    marked.write_text("read and taken away by a collector")
    assert simulate(carrier(tmp_path)) == truth
    assert marked.read_text() == "read and taken away by a collector"


def test_a_killed_run_is_started_afresh_and_leaves_foreign_files_alone(
    home: Path, tmp_path: Path
) -> None:
    simulate(carrier(tmp_path, seed=99))
    (tmp_path / "simulated" / "truth.json").unlink()  # as if killed before the end
    victim = next((tmp_path / "landing" / "PGW-44").iterdir())
    victim.rename(victim.with_name(f".{victim.name}.part"))
    foreign = tmp_path / "landing" / "MSC-44" / "somebody-else.cdr"
    foreign.write_text("not ours")
    simulate(carrier(tmp_path))
    assert foreign.read_text() == "not ours"
    foreign.unlink()
    assert fingerprint(tmp_path) == fingerprint(home)


def test_other_parameters_replace_the_carrier(home: Path, tmp_path: Path) -> None:
    simulate(carrier(tmp_path, subscribers=60))
    truth = simulate(carrier(tmp_path))
    assert truth.parameters["subscribers"] == 120
    assert fingerprint(tmp_path) == fingerprint(home)


def test_the_truth_on_disk_is_the_truth_returned(home: Path) -> None:
    truth = Truth.read(home / "simulated" / "truth.json")
    assert truth == simulate(carrier(home))
    assert json.loads((home / "simulated" / "truth.json").read_text())["totals"] == truth.totals


@pytest.mark.parametrize(("subscribers", "days"), [(20, 1), (20, 31), (200, 1), (200, 31)])
def test_every_fault_occurs_in_small_carriers_too(
    tmp_path: Path, subscribers: int, days: int
) -> None:
    truth = simulate(Settings(home=tmp_path, subscribers=subscribers, days=days))
    counted = {
        name: value
        for name, value in truth.totals.items()
        if isinstance(value, int) and name != "subscriptions"
    }
    counted |= truth.totals["rejected_by_reason"] | truth.totals["filtered_by_reason"]
    counted |= {f"standard {name}": n for name, n in truth.totals["standard_by_service"].items()}
    counted |= {f"long {name}": n for name, n in truth.totals["long_calls_by_service"].items()}
    assert [name for name, value in counted.items() if value < 1] == []
    assert truth.faults["truncated_files"]


def operational(home: Path, table: str) -> list[dict[str, object]]:
    path = home / "simulated" / "operational" / f"{table}.parquet"
    return list(pq.read_table(path).to_pylist())


def test_operational_rows_refer_to_rows_that_exist(home: Path) -> None:
    customers = {row["customer_id"] for row in operational(home, "crm.customer")}
    accounts = {row["account_id"]: row for row in operational(home, "crm.account")}
    subscriptions = {row["subscription_id"]: row for row in operational(home, "crm.subscription")}
    products = operational(home, "crm.product_instance")
    assert len(subscriptions) == 120
    assert {row["customer_id"] for row in accounts.values()} == customers
    assert {row["account_id"] for row in subscriptions.values()} == set(accounts)
    assert {row["subscription_id"] for row in products} == set(subscriptions)
    assert {row["account_id"] for row in operational(home, "billing.payment")} <= set(accounts)
    for row in subscriptions.values():
        assert row["province_code"] == accounts[row["account_id"]]["province_code"]
        assert row["valid_to"] is None or row["valid_from"] < row["valid_to"]
    assert len({row["msisdn"] for row in subscriptions.values()}) == 120
    assert len({row["imsi"] for row in subscriptions.values()}) == 120


def test_numbers_in_use_are_assigned_and_hundreds_are_free_in_each_province(home: Path) -> None:
    pool = {row["msisdn"]: row for row in operational(home, "resource.msisdn")}
    for row in operational(home, "crm.subscription"):
        expected = "assigned" if row["status"] == "active" else "reserved"
        assert pool[row["msisdn"]]["status"] == expected
    for province in ("11", "44", "51"):
        free = [
            row
            for row in pool.values()
            if row["province_code"] == province and row["status"] == "free"
        ]
        assert len(free) >= 200
        fixed = [row for row in free if service_type_of(str(row["msisdn"])) == "fixed"]
        assert 8 <= len(fixed) < 100


def test_no_identity_number_has_a_right_check_digit(home: Path) -> None:
    for row in operational(home, "crm.customer"):
        digits = str(row["id_number"])
        assert len(digits) == 18
        total = sum(
            (10 if digit == "X" else int(digit)) * pow(2, 17 - place)
            for place, digit in enumerate(digits)
        )
        assert total % 11 != 1  # ISO 7064 MOD 11-2


def test_members_join_and_leave_inside_the_month(tmp_path: Path) -> None:
    simulate(Settings(home=tmp_path, subscribers=400))
    rows = operational(tmp_path, "crm.subscription")
    first = min(row["valid_to"] for row in rows if row["valid_to"])
    joined = [row for row in rows if f"{row['valid_from']:%Y-%m}" == "2026-10"]
    left = [row for row in rows if row["valid_to"] is not None]
    assert 0.03 <= len(joined) / 400 <= 0.07
    assert 0.04 <= len(left) / 400 <= 0.08
    assert all(row["status"] == "terminated" for row in left)
    assert f"{first:%Y-%m}" == "2026-10"
