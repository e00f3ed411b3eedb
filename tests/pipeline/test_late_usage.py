"""Usage that comes late: what is rated again, and what becomes of usage of a closed cycle."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestion import extract
from operational.billing.service import ensure_cycle
from operational.permissions import Principal
from tests.pipeline.tables import Rows, differences, tables_of
from tests.server_profile import server_profile
from tollhouse.pipeline import DEMO_JOB, run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.restatement import restate
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse, read_warehouse, transform

pytestmark = pytest.mark.pipeline

FINANCE = Principal("finance", "Finance", "finance", "00")
NEXT_CYCLE = "2026-11"
BUILD = ("collect", "land", "mediate", "rate")
# Of the busiest lines: one gets another number, one took its plan up later, one goes to the account
# of another, one ended early, and one has a friend whom it called.
CHANGES = (
    "update crm.subscription set msisdn = '8613999999999' where subscription_id = %(line_0)s",
    "update crm.product_instance set valid_from ="
    " greatest(valid_from + interval '1 day', '2026-10-08 00:00+08')"
    " where subscription_id = %(line_1)s and role = 'plan'",
    "update crm.subscription set account_id ="
    " (select account_id from crm.subscription where subscription_id = %(line_3)s)"
    " where subscription_id = %(line_2)s",
    "update crm.subscription set valid_to ="
    " greatest(valid_from + interval '1 day', '2026-10-05 00:00+08')"
    " where subscription_id = %(line_4)s",
    "insert into crm.friend_number (subscription_id, number, valid_from)"
    " values (%(line_5)s, %(friend)s, '2026-01-01 00:00+08')",
)
KEPT = {
    "subscription": ("msisdn", "account_id", "valid_to"), "product_instance": ("valid_from",),
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, list[Path]]]:
    """A carrier whose month was rated without three files, and these files."""
    settings = Settings(home=tmp_path_factory.mktemp("late"), subscribers=60, days=20)
    try:
        yield settings, rate_without(settings, tmp_path_factory.mktemp("held"))
    finally:
        EmbeddedServer(settings.home).remove()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, list[Path]]]:
    """The same on PostgreSQL."""
    with server_profile(tmp_path_factory, "late-served", subscribers=60, days=20) as settings:
        yield settings, rate_without(settings, tmp_path_factory.mktemp("held-served"))


@pytest.fixture(scope="module")
def in_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The same carrier, all of whose files came in time."""
    settings = Settings(home=tmp_path_factory.mktemp("in-time"), subscribers=60, days=20)
    try:
        for step in ("prepare", "simulate", *BUILD, "bill"):
            run_step(step, settings)
        yield settings
    finally:
        EmbeddedServer(settings.home).remove()


def test_only_accounts_whose_usage_changed_are_rated_again(
    home: tuple[Settings, list[Path]],
) -> None:
    settings, (file, _, _) = home
    run_step("rate", settings)
    assert rows(settings, "select count(*) from billing.dirty_line") == [(0,)]

    before = usage_by_account(settings)
    deliver(settings, file)
    for step in BUILD:
        run_step(step, settings)
    after = usage_by_account(settings)

    changed = {account for account in [*before, *after] if before[account] != after[account]}
    rated = {
        account
        for (account,) in rows(
            settings,
            "select distinct account_id from billing.dirty_line"
            " inner join billing.cycle_line using (line_key)",
        )
    }
    assert rated == changed
    assert changed < set(after)  # others were left alone


def test_what_began_before_late_usage_keeps_its_charges(home: tuple[Settings, list[Path]]) -> None:
    settings, _ = home
    kept = rows(
        settings,
        "select count(*) filter (charge.started_at < dirty.rated_from),"
        " count(*) filter (charge.started_at >= dirty.rated_from)"
        " from billing.backdated_line inner join billing.dirty_line as dirty using (line_key)"
        " inner join billing.usage_charge as charge using (line_key) where dirty.is_rated_again",
    )
    assert min(kept[0]) > 20


def test_rating_what_changed_gives_what_rating_everything_gives(
    home: tuple[Settings, list[Path]],
) -> None:
    settings, _ = home
    require_the_same_of_rating_everything(settings, tables_of(settings, ("billing",)))


def test_whatever_changes_is_followed_as_if_everything_was_rated(
    home: tuple[Settings, list[Path]],
) -> None:
    settings, _ = home
    before = tables_of(settings, ("billing",))
    change_customers(settings)
    run_step("rate", settings)
    changed = tables_of(settings, ("billing",))
    assert before["billing.usage_guide"] != changed["billing.usage_guide"]
    require_the_same_of_rating_everything(settings, changed)

    restore_customers(settings)
    run_step("rate", settings)
    assert not differences(before, tables_of(settings, ("billing",)))


def test_late_usage_is_rated_on_postgresql_as_if_it_came_in_time(
    home: tuple[Settings, list[Path]], served: tuple[Settings, list[Path]]
) -> None:
    settings, (file, *_) = served
    deliver(settings, file)
    for step in BUILD:
        run_step(step, settings)
    assert rows(settings, "select count(*) from billing.backdated_line")[0][0] > 20
    late = tables_of(settings, ("billing",))
    assert not differences(tables_of(home[0], ("billing",)), late)
    require_the_same_of_rating_everything(settings, late)


def test_a_run_killed_within_late_usage_is_made_good_by_the_next(
    home: tuple[Settings, list[Path]],
) -> None:
    settings, (_, file, _) = home
    deliver(settings, file)
    for step in BUILD[:-1]:
        run_step(step, settings)
    extract(settings)
    transform(settings, ["+billing__allowance_draw,tag:billing"], command="run")
    assert rows(settings, "select count(*) from billing.backdated_line")[0][0] > 20

    run_step("rate", settings)
    require_the_same_of_rating_everything(settings, tables_of(settings, ("billing",)))


@pytest.mark.parametrize("last", ["billing__usage_guide", "billing__usage_charge"])
def test_a_run_that_was_killed_leaves_nothing_of_what_it_saw(
    home: tuple[Settings, list[Path]], last: str
) -> None:
    settings, _ = home
    before = tables_of(settings, ("billing",))
    change_customers(settings)
    extract(settings)
    transform(settings, [f"+{last},tag:billing"], command="run")
    assert before["billing.usage_guide"] != tables_of(settings, ("billing",))["billing.usage_guide"]

    restore_customers(settings)
    run_step("rate", settings)
    assert not differences(before, tables_of(settings, ("billing",)))


def test_usage_of_a_closed_cycle_follows_the_policy_of_its_plan(
    home: tuple[Settings, list[Path]],
) -> None:
    settings, (*_, file) = home
    for step in DEMO_JOB[DEMO_JOB.index("bill") : DEMO_JOB.index("report")]:
        if step != "score":
            run_step(step, settings)
    closed = of_cycle(settings)
    ensure_cycle(settings, NEXT_CYCLE, settings.timezone)
    following = settings.model_copy(update={"cycle": NEXT_CYCLE})
    policies = give_policies(settings)

    deliver(settings, file)
    for step in (*BUILD, "settle", "build_marts"):
        run_step(step, following)

    assert of_cycle(settings) == closed
    late = rows(
        settings,
        "select guided.cycle_id, suspended.reason_code, holding.plan_version_id, charge.amount"
        " from mediation.usage as usage"
        " left join billing.guided_usage as guided"
        " on guided.usage_id = usage.usage_id"
        " left join billing.suspended_usage as suspended"
        " on suspended.usage_id = usage.usage_id"
        " left join billing.product_holding as holding on holding.role = 'plan'"
        " and holding.msisdn = usage.served_msisdn and usage.started_at >= holding.held_from"
        " and usage.started_at < holding.held_to"
        " left join (select usage_id, sum(amount) as amount from billing.charge group by usage_id)"
        " as charge on charge.usage_id = usage.usage_id"
        " where usage._file_id = ?",
        [f"MSC-44/{file.name}"],
    )
    outcomes: Counter[str] = Counter()
    for cycle_id, reason, version, amount in late:
        # A part of a call that was billed already belongs to the closed cycle.
        if cycle_id == settings.cycle or reason in ("no_subscription", "no_zone"):
            continue
        policy = policies.get(version, "next_bill")
        outcomes[policy] += 1
        expected = {
            "next_bill": (NEXT_CYCLE, None), "restate": (None, "to_restate"),
            "write_off": (None, "written_off"),
        }[policy]  # fmt: skip
        assert (cycle_id, reason) == expected
        assert (amount is not None) == (policy == "next_bill")
    assert set(outcomes) == {"next_bill", "restate", "write_off"}
    (billed,) = rows(
        settings,
        "select sum(amount) from billing.charge where cycle_id = ? and charge_type = 'usage'",
        [NEXT_CYCLE],
    )
    assert billed[0] == sum((row[3] for row in late if row[0] == NEXT_CYCLE), Decimal(0))
    assert not rows(settings, "select * from dm.control_total where not is_tied")


def test_restating_asks_for_what_the_bill_would_have_been_more(
    home: tuple[Settings, list[Path]], in_time: Settings
) -> None:
    settings, (*_, file) = home
    found = restate(settings, principal=FINANCE, cycle_id=settings.cycle)

    # Of accounts all whose late usage waits to be restated, a home that had it in time knows.
    alike = {
        account
        for account, reasons in rows(
            settings,
            "select subscription.account_id, list(distinct coalesce(reason_code, 'other'))"
            " from mediation.usage as usage inner join ods.subscription as subscription"
            " on subscription.msisdn = usage.served_msisdn"
            " left join billing.suspended_usage as suspended"
            " on suspended.usage_id = usage.usage_id"
            " where usage._file_id = ? group by subscription.account_id",
            [f"MSC-44/{file.name}"],
        )
        if reasons == ["to_restate"]
    }
    bills = "select account_id, charge_amount from billing.bill where cycle_id = ?"
    whole, late = (dict(rows(each, bills, [settings.cycle])) for each in (in_time, settings))
    expected = {account: whole[account] - late[account] for account in alike}
    differences_found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in found:
        differences_found[row.account_id] += row.difference
    assert {account: differences_found[account] for account in alike} == expected
    assert any(expected.values())

    with connect(settings) as connection:
        notes = dict(
            connection.execute(
                "select note_id, case note_type when 'debit' then amount else -amount end"
                " from billing.adjustment_note where state = 'requested'"
            ).fetchall()
        )
    assert notes == {row.note_id: row.difference for row in found}
    again = restate(settings, principal=FINANCE, cycle_id=settings.cycle)
    assert [row.note_id for row in again] == [None] * len(found)


def test_a_closed_cycle_on_postgresql_without_late_usage_comes_out_as_it_was_billed(
    on_postgres: Settings,
) -> None:
    (billed,) = rows(
        on_postgres,
        "select count(*) from billing.bill_item where cycle_id = ?",
        [on_postgres.cycle],
    )
    assert billed[0] > 200
    assert restate(on_postgres, principal=FINANCE, cycle_id=on_postgres.cycle) == []


def test_a_second_run_changes_nothing_of_what_came_late(home: tuple[Settings, list[Path]]) -> None:
    settings, _ = home
    before = tables_of(settings, ("billing",))
    run_step("rate", settings.model_copy(update={"cycle": NEXT_CYCLE}))
    assert not differences(before, tables_of(settings, ("billing",)))


def rate_without(settings: Settings, folder: Path) -> list[Path]:
    """Rate a month but for three files, which are put into a folder."""
    for step in ("prepare", "simulate"):
        run_step(step, settings)
    files = sorted((settings.landing_dir / "MSC-44").glob("*.cdr"))
    late = [files[len(files) * third // 4] for third in (1, 3, 2)]
    for file in late:
        shutil.move(file, folder / file.name)
    for step in BUILD:
        run_step(step, settings)
    return [folder / file.name for file in late]


def deliver(settings: Settings, file: Path) -> None:
    shutil.copy2(file, settings.landing_dir / "MSC-44" / file.name)


def rows(settings: Settings, query: str, parameters: list[Any] | None = None) -> list[Any]:
    with read_warehouse(settings, wait_s=60) as warehouse:
        return warehouse.rows(query, parameters or [])


def usage_by_account(settings: Settings) -> defaultdict[str, set[Any]]:
    found: defaultdict[str, set[Any]] = defaultdict(set)
    for account, *usage in rows(
        settings,
        "select account_id, usage_id, quantity_micro, started_at from billing.guided_usage",
    ):
        found[account].add(tuple(usage))
    return found


def of_cycle(settings: Settings) -> list[Any]:
    """The charges and items of the settings' cycle."""
    tables = ("guided_usage", "charge", "bill_item", "bill")
    query = "select * from billing.{} where cycle_id = ?"
    return [sorted(rows(settings, query.format(table), [settings.cycle]), key=str)
            for table in tables]  # fmt: skip


def change_customers(settings: Settings) -> None:
    """Change some behind the back of the rules that would not let them."""
    lines = rows(
        settings,
        "select guided.subscription_id, min(usage.other_party)"
        " from billing.guided_usage as guided"
        " inner join billing.classified_usage as usage on usage.usage_id = guided.usage_id"
        " where usage.charge_class = 'voice_domestic' and usage.other_party like '861%'"
        " group by guided.subscription_id order by count(*) desc, guided.subscription_id limit 6",
    )
    named = {f"line_{number}": line for number, (line, _) in enumerate(lines)}
    with connect(settings) as connection:
        connection.execute("set session_replication_role = replica")
        for table in KEPT:
            connection.execute(f"create table {table}_before as select * from crm.{table}")
        for statement in CHANGES:
            done = connection.execute(statement, named | {"friend": lines[5][1]})
            assert done.rowcount


def restore_customers(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("set session_replication_role = replica")
        for table, columns in KEPT.items():
            kept = ", ".join(f"{column} = before.{column}" for column in columns)
            connection.execute(
                f"update crm.{table} as now set {kept} from {table}_before as before"
                f" where now.{table}_id = before.{table}_id"
            )
            connection.execute(f"drop table {table}_before")
        connection.execute("delete from crm.friend_number where valid_from = '2026-01-01 00:00+08'")


def forget_what_was_rated(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        warehouse.execute("drop table billing.rated_line")
        warehouse.execute("drop table billing.guided_fact")


def require_the_same_of_rating_everything(settings: Settings, rated: dict[str, Rows]) -> None:
    forget_what_was_rated(settings)
    run_step("rate", settings)
    assert not differences(rated, tables_of(settings, ("billing",)))


def give_policies(settings: Settings) -> dict[str, str]:
    """One of the plans much used keeps the next bill, one gives up, all others restate."""
    versions = [
        version
        for (version,) in rows(
            settings,
            "select plan_version_id from billing.guided_usage where _file_id like 'MSC-44/%'"
            " group by plan_version_id order by count(*) desc, plan_version_id",
        )
    ]
    policies = dict.fromkeys(versions, "restate")
    policies |= {versions[1]: "write_off", versions[2]: "next_bill"}
    with connect(settings) as connection:
        connection.execute("set session_replication_role = replica")
        for version, policy in policies.items():
            connection.execute(
                "update catalogue.price_plan_version set late_usage_policy = %s"
                " where plan_version_id = %s",
                (policy, version),
            )
    return policies
