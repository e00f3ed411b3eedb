"""How fast rating is, standard usage to charges and bills, and in how much memory.

A carrier of so many lines on the plans of the sample catalogue, and a month of their usage, are
made in SQL, not timed; then steps `rate` and `bill` run as they do every day: on the month so far,
on one more day of it in new files, of which a hundredth came late, and where nothing is new. Each
ends with control totals: every usage is charged or in suspense; charges, bill items and bills add
up. Beside them, in the same run: a plain scan that sums what was measured (the floor), and a
careful rater that takes one record after the other in Python (the usual way), on a sample.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import yaml

from operational.catalogue.service import SAMPLE_CATALOGUE, load_catalogue
from tollhouse.bench.mediation import ControlTotalsDifferError
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

STEPS = ("rate", "bill")
PLANS = 20  # dealt to the lines in turn
COPIED_PLAN = "plan-night-weekend"  # has bands of the day, tiers, an allowance, discounts and a cap
DAYS = 30  # of the month so far; the day after them is the daily increment
ROW_BY_ROW_SAMPLE = 200_000


@dataclass
class Result:
    """What a run measured: seconds by what was done, totals, and the peak of memory.

    Attributes:
        records: usages of the month so far.
        daily_records: usages of one day more.
        daily_lines: lines of which that day something had to be rated.
        daily_lines_again: of these, the lines of which rated usage was rated again.
    """

    lines: int
    records: int
    plans: int
    daily_records: int
    daily_lines: int = 0
    daily_lines_again: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    totals: dict[str, str] = field(default_factory=dict)
    peak_mb: int = 0

    @property
    def rated_per_s(self) -> int:
        """Records of standard usage a second, to charges."""
        return round(self.records / self.seconds["rate"])

    def records_of(self, name: str) -> int:
        """How many usages were new in one of the `seconds`."""
        if name == "nothing new":
            return 0
        return self.daily_records if name.startswith("daily") else self.records


def measure(home: Path, *, lines: int, records: int) -> Result:
    """Rate and bill a month of `records` usages of `lines` lines in an empty home.

    Args:
        home: a folder to be made, and deleted after the run.
        lines: subscriptions, one an account.
        records: usages of the cycle.

    Raises:
        ControlTotalsDifferError: usage, charges and bills do not add up.
    """
    settings = Settings(home=home)
    try:
        run_step("prepare", settings)
        plans = _make_plans(settings)
        _make_lines(settings, lines, plans)
        daily_records = -(-records // DAYS)
        result = Result(lines, records, len(plans), daily_records)
        _make_usage(settings, lines, range(records), first_day=0, days=DAYS)
        for step in STEPS:
            result.seconds[step] = _timed(settings, step)
        _check(settings, result)
        daily = range(records, records + daily_records)
        _make_usage(settings, lines, daily, first_day=DAYS, days=1)
        for step in STEPS:
            result.seconds[f"daily {step}"] = _timed(settings, step)
            if step == "rate":
                result.daily_lines, result.daily_lines_again = _dirty_lines(settings)
        _check(settings, result)
        result.seconds["nothing new"] = _timed(settings, "rate")
        result.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        _compare(settings, result)
        return result
    finally:
        EmbeddedServer(home).remove()
        shutil.rmtree(home, ignore_errors=True)


def _make_plans(settings: Settings) -> list[str]:
    """The sample catalogue's plans for mobiles, and as many copies of one at other fees as lack."""
    query = (
        "select offering_id from catalogue.offering"
        " where offering_type = 'plan' and 2 = (select count(distinct charge_class)"
        " from catalogue.usage_price join catalogue.price_plan_version using (plan_version_id)"
        " where price_plan_version.offering_id = offering.offering_id"
        " and charge_class in ('voice_domestic', 'data_domestic')) order by offering_id"
    )
    with connect(settings) as connection:
        plans = [offering_id for (offering_id,) in connection.execute(query)]
    sample = yaml.safe_load((SAMPLE_CATALOGUE / "plans_other.yaml").read_text(encoding="utf-8"))
    (copied,) = (each for each in sample["offerings"] if each["offering_id"] == COPIED_PLAN)
    (version,) = copied["versions"]
    copies = [
        copied
        | {
            "offering_id": f"{COPIED_PLAN}-{fee}",
            "versions": [version | {"monthly_fee_amount": str(fee)}],
        }
        for fee in range(41, 41 + PLANS - len(plans))
    ]
    file = settings.home / "plans.yaml"
    file.write_text(yaml.safe_dump({"offerings": copies}, allow_unicode=True), encoding="utf-8")
    load_catalogue(settings, file, SAMPLE_CATALOGUE / "price_lists.yaml")
    return plans + [each["offering_id"] for each in copies]


def _make_lines(settings: Settings, lines: int, plans: list[str]) -> None:
    """Customers, accounts and subscriptions, the plans dealt in turn."""
    with connect(settings) as connection:
        connection.execute(
            "insert into crm.customer (customer_id, customer_type, name, province_code)"
            " select 'C' || n, 'individual', 'Line ' || n, '44' from generate_series(1, %s) as n",
            (lines,),
        )
        connection.execute(
            "insert into crm.account (account_id, customer_id, account_name, bill_language, status,"
            " province_code) select 'A' || n, 'C' || n, 'Line ' || n, 'zh', 'active', '44'"
            " from generate_series(1, %s) as n",
            (lines,),
        )
        connection.execute(
            "insert into crm.subscription (subscription_id, account_id, msisdn, service_type,"
            " payment_type, status, valid_from, province_code)"
            " select 'S' || n, 'A' || n, (8613000000000 + n)::text, 'mobile', 'postpaid', 'active',"
            " timestamptz '2020-01-01 00:00:00+00', '44' from generate_series(1, %s) as n",
            (lines,),
        )
        connection.execute(
            "insert into crm.product_instance (product_instance_id, subscription_id, offering_id,"
            " role, valid_from) select 'P' || n, 'S' || n, (%s::text[])[1 + n %% %s], 'plan',"
            " timestamptz '2020-01-01 00:00:00+00' from generate_series(1, %s) as n",
            (plans, len(plans), lines),
        )


def _make_usage(
    settings: Settings, lines: int, numbers: range, *, first_day: int, days: int
) -> None:
    """Standard usage of some days in the place of mediation's view, drawn by hashes.

    A hundredth is of numbers that no line has. Of what comes after the first day, a hundredth began
    on any of the days before.
    """
    first_second, seconds = first_day * 86_400, days * 86_400
    query = f"""
        select
            cast(md5(cast(n as varchar)) as uuid) as usage_id,
            case when dice % 10 < 5 then 'voice' when dice % 10 < 6 then 'sms' else 'data' end
                as service,
            case when dice // 10 % 3 = 0 and dice % 10 < 6 then 'mt' else 'mo' end as direction,
            cast(8613000000001 + dice // 100 % {lines + lines // 100} as varchar) as served_msisdn,
            case
                when dice % 10 >= 6 then ''
                when dice // 7 % 200 = 0 then '852' || cast(20000000 + n % 1000000 as varchar)
                else '8613' || cast(100000000 + n % 899999999 as varchar)
            end as other_party,
            case when dice % 10 >= 6 then 'none' else 'e164' end as other_party_type,
            timestamp '2026-09-30 16:00:00' + to_seconds(
                case
                    when {first_day} > 0 and dice // 23 % 100 = 0
                        then dice // 1000 % greatest({first_second}, 1)
                    else {first_second} + dice // 1000 % {seconds}
                end
            ) as started_at,
            480 as utc_offset_minutes,
            case when dice % 10 < 5 then 1 + dice // 11 % 300 else 0 end as duration_seconds,
            case when dice % 10 >= 6 then dice // 13 % 200000 else 0 end as uplink_octets,
            case when dice % 10 >= 6 then dice // 17 % 3000000 else 0 end as downlink_octets,
            '46001' as serving_plmn,
            case when dice // 19 % 20 = 0 then '11' else '44' end as visited_province_code,
            cast(null as varchar) as sp_id,
            cast(null as varchar) as content_id,
            'bench' as source_id,
            'bench/' || cast(n // 20000 as varchar) as _file_id
        from (
            select n, cast(hash(n) // 16 as bigint) as dice
            from range({numbers.start}, {numbers.stop}) as t(n)
        )
        """  # noqa: S608 - numbers from the command line
    with open_warehouse(settings, "make usage") as warehouse:
        if numbers.start == 0:
            for view in ("usage", "usage_file"):
                warehouse.execute(f"drop view if exists mediation.{view}")
            warehouse.execute(f"create table mediation.usage as {query}")
        else:
            warehouse.execute(f"insert into mediation.usage {query}")
        warehouse.execute(
            "create or replace table mediation.usage_file as"
            " select _file_id as file_id, cast(count(*) as varchar) as digest"
            " from mediation.usage group by _file_id"
        )


def _dirty_lines(settings: Settings) -> tuple[int, int]:
    """Of how many lines the last run rated something, and of how many something again."""
    with open_warehouse(settings, "count dirty lines") as warehouse:
        ((lines, again),) = warehouse.rows(
            "select count(*), count(*) filter (is_rated_again) from billing.dirty_line"
        )
    return lines, again


def _timed(settings: Settings, step: str) -> float:
    began = time.perf_counter()
    run_step(step, settings)
    return time.perf_counter() - began


def _check(settings: Settings, result: Result) -> None:
    with open_warehouse(settings, "control totals of a benchmark") as warehouse:
        (row,) = warehouse.rows(
            "select (select count(*) from mediation.usage),"
            " (select count(*) from billing.guided_usage),"
            " (select count(*) from billing.suspended_usage),"
            " (select count(distinct usage_id) from billing.usage_charge),"
            " (select sum(amount) from billing.charge),"
            " (select sum(charge_amount) from billing.bill_item),"
            " (select sum(amount) from billing.bill_item),"
            " (select sum(charge_amount) from billing.bill),"
            " (select count(*) from billing.bill)"
        )
    names = (
        "usage", "rated", "suspended", "usage charged", "charges", "items before rounding",
        "bill items", "billed", "bills",
    )  # fmt: skip
    result.totals = {name: f"{value:,}" for name, value in zip(names, row, strict=True)}
    used, rated, suspended, charged, amount, before, items, billed, _ = row
    if (used, charged, amount, items) != (rated + suspended, rated, before, billed):
        raise ControlTotalsDifferError(f"totals do not tie: {result.totals}")


def _compare(settings: Settings, result: Result) -> None:
    """The floor and the usual way, on the same usage."""
    with open_warehouse(settings, "compare a benchmark") as warehouse:
        began = time.perf_counter()
        warehouse.rows(
            "select service, count(*), sum(duration_seconds), sum(uplink_octets + downlink_octets)"
            " from mediation.usage group by service"
        )
        result.seconds["scan and sum"] = time.perf_counter() - began
        sample = warehouse.rows(
            "select served_msisdn, started_at, unit, quantity_micro, charge_class"
            " from billing.classified_usage order by started_at, usage_id limit ?",
            [ROW_BY_ROW_SAMPLE],
        )
    began = time.perf_counter()
    _rate_row_by_row(sample)
    spent = time.perf_counter() - began
    result.seconds["row by row, scaled"] = spent * result.records / max(1, len(sample))


def _rate_row_by_row(rows: list[tuple[Any, ...]]) -> dict[str, Decimal]:
    """A rater as they are usually written: balances in memory, one record after the other."""
    left: dict[tuple[str, str], int] = defaultdict(lambda: 6_000)
    total: dict[str, int] = defaultdict(int)
    charges: dict[str, Decimal] = defaultdict(Decimal)
    mill = Decimal("0.001")
    for msisdn, _, unit, micro, _ in rows:
        quantity = micro // 1_000_000
        if unit == "second":
            wanted = -(-quantity // 60) * 60
            drawn = min(wanted, left[msisdn, unit])
            left[msisdn, unit] -= drawn
            amount = Decimal(wanted - drawn) / 60 * Decimal("0.15")
        elif unit == "octet":
            before = -(-total[msisdn] // 1_048_576)
            total[msisdn] += quantity
            amount = (-(-total[msisdn] // 1_048_576) - before) * Decimal("0.30")
        else:
            amount = Decimal("0.10")
        charges[msisdn] += amount.quantize(mill, ROUND_HALF_UP)
    return charges


__all__ = ["Result", "measure"]
