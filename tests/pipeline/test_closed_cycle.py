"""Nothing changes a cycle that is approved or final: no command, step, DAG, form or statement.

What there is to try is asked of the product itself: a command, step, DAG task or route that is new
and not named here makes a test fail. Before all is tried, everything a bill is made of is changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import typer
import yaml
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from operational.app import create_app
from operational.billing.service import CYCLE_STATES
from operational.billing.totals import month_totals
from operational.permissions import Principal
from operational.security import SESSION_COOKIE
from tests.operational.browser_forms import sent_fields
from tollhouse.cli import app as command_line
from tollhouse.pipeline import DEMO_JOB, STEPS, run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.services.airflow import DAGS_DIR
from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import open_warehouse, read_warehouse

pytestmark = pytest.mark.pipeline

FINANCE = Principal("finance", "finance", "finance", "00")
# Working tables of rating and billing: of open cycles only, emptied by the next run.
OF_OPEN_CYCLES = {
    "allowance_access", "band_period", "billed_cycle", "charged_item", "cycle_clock", "dirty_line",
    "discount", "discount_order", "guiding_change", "guiding_fact", "guided_fact",
    "backdated_line", "kept_draw", "kept_total", "late_usage", "payment_order", "payment_share",
    "plan_in_cycle", "rating_input",
}  # fmt: skip
# Of the marts, what says what a cycle came to.
FIGURES = {
    "mid.fct_bill", "mid.fct_bill_item", "mid.fct_settlement_statement", "dm.bill", "dm.bill_item",
    "dm.settlement_statement", "dm.revenue",
}  # fmt: skip
# Of these the small carrier has rows.
FILLED = (
    "billing.charge", "billing.guided_usage", "billing.usage_charge", "billing.allowance_draw",
    "billing.allowance_bucket", "billing.recurring_charge", "billing.bill", "billing.bill_item",
    "billing.bill_movement", "settlement.interconnect_entry", "settlement.statement", *FIGURES,
)  # fmt: skip
Prints = dict[str, str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A small carrier whose cycle is on trial, with bills, settlement and marts."""
    settings = Settings(home=tmp_path_factory.mktemp("closed"), subscribers=40, days=20)
    try:
        for step in DEMO_JOB[: DEMO_JOB.index("score")]:
            run_step(step, settings)
        yield settings
    finally:
        EmbeddedServer(settings.home).remove()


# --- What a cycle is: fingerprints of its rows ----------------------------------------------------


_OF_LINES_OF_THE_CYCLE = "line_key in (select line_key from billing.cycle_line where cycle_id = ?)"


def warehouse_prints(settings: Settings) -> Prints:
    """Of every table of billing and settlement that knows the cycle, and of the marts' figures."""
    with read_warehouse(settings, wait_s=60) as warehouse:
        columns: dict[str, list[str]] = {}
        for schema, table, column in warehouse.rows(
            "select table_schema, table_name, column_name from information_schema.columns"
            " where table_catalog = 'warehouse' order by 1, 2, 3"
        ):
            name = f"{schema}.{table}"
            is_figure = schema in ("billing", "settlement") and table not in OF_OPEN_CYCLES
            if is_figure or name in FIGURES:
                columns.setdefault(name, []).append(column)
        of_cycle = {
            name: found for name, found in columns.items() if {"cycle_id", "line_key"} & set(found)
        }
        prints = {}
        for name, found in of_cycle.items():
            selected = ", ".join(
                f'cast("{column}" as varchar)' for column in found if column != "_loaded_at"
            )
            where = "cycle_id = ?" if "cycle_id" in found else _OF_LINES_OF_THE_CYCLE
            rows = warehouse.rows(f"select {selected} from {name} where {where}", [settings.cycle])
            prints[name] = _print_of(rows)
    assert not any(prints[name].startswith("0 ") for name in FILLED)
    return prints


# Of what is appended to (ledger, payments), the rows of the cycle's bills; of open items, what is
# not moved by payments.
OPERATIONAL = {
    "billing.billing_cycle": "select cycle_id, starts_at, ends_at, state from billing.billing_cycle"
    " where cycle_id = %(cycle)s",
    "billing.bill": "select * from billing.bill where cycle_id = %(cycle)s",
    "billing.bill_item": "select * from billing.bill_item where bill_id in"
    " (select bill_id from billing.bill where cycle_id = %(cycle)s)",
    "billing.bill_movement": "select * from billing.bill_movement where bill_id in"
    " (select bill_id from billing.bill where cycle_id = %(cycle)s)",
    "billing.ledger_entry": "select * from billing.ledger_entry where entry_type = 'bill'"
    " and bill_id in (select bill_id from billing.bill where cycle_id = %(cycle)s)",
    "billing.ledger_line": "select * from billing.ledger_line where entry_id in"
    " (select entry_id from billing.ledger_entry where entry_type = 'bill' and bill_id in"
    " (select bill_id from billing.bill where cycle_id = %(cycle)s))",
    "billing.open_item": "select open_item_id, account_id, document_id, bill_item_code,"
    " issued_date, due_date, amount from billing.open_item where document_type = 'bill'"
    " and bill_id in (select bill_id from billing.bill where cycle_id = %(cycle)s)",
}


def operational_prints(settings: Settings) -> Prints:
    with connect(settings) as connection:
        prints = {
            name: _print_of(connection.execute(query, {"cycle": settings.cycle}).fetchall())
            for name, query in OPERATIONAL.items()
        }
        if connection.execute("select to_regclass('dm.bill')").fetchone() != (None,):
            for table in ("bill", "bill_item"):
                rows = connection.execute(
                    f"select * from dm.{table} where cycle_id = %s", (settings.cycle,)
                ).fetchall()
                prints[f"served dm.{table}"] = _print_of(rows)
    return prints


def _print_of(rows: list[tuple[Any, ...]]) -> str:
    text = "\n".join(sorted(map(repr, rows)))
    return f"{len(rows)} rows {hashlib.sha256(text.encode()).hexdigest()}"


def prints_of(settings: Settings) -> Prints:
    return warehouse_prints(settings) | operational_prints(settings)


def differing(before: Prints, after: Prints) -> list[str]:
    return [
        f"{name}: {before.get(name)} became {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


# --- What a bill is made of, changed --------------------------------------------------------------


def disturb(settings: Settings, number: int) -> None:
    """A late file, other customers, prices, trunk groups: all that figures go by is other."""
    with connect(settings) as connection:
        msisdn, province = connection.execute(
            "select msisdn, province_code from crm.subscription where valid_to is null"
            " and valid_from < '2026-09-01' order by subscription_id limit 1"
        ).fetchone() or ("", "")
        connection.execute(
            "update crm.product_instance set valid_to = '2026-10-11 16:00+00'"
            " where valid_to is null and valid_from < '2026-09-01'"
            " and product_instance_id > (select min(product_instance_id)"
            " from crm.product_instance)"
        )
        connection.execute(
            "update crm.product_instance set offering_id = 'plan-4g-596'"
            " where product_instance_id = (select min(product_instance_id)"
            " from crm.product_instance)"
        )
        # Past the catalogue's guards: the prices of versions in use.
        connection.execute("set session_replication_role = replica")
        connection.execute("update catalogue.price_step set unit_numerator = unit_numerator * 2")
        connection.execute("update settlement.trunk_group set operator_code = 'CTCC'")
    source = f"MSC-{province}"
    sequence = 900_000 + number
    calls = [
        f"CDR|voice|mo|{msisdn}|460010000000001||13800138000|202610{day:02d}120000|+0800|600|46001"
        f"|0001-0001||CMCC-{province}-OUT1|{sequence}{day}|0|1|0"
        for day in range(1, 11)
    ]
    lines = [f"HDR|{source}|{sequence:06d}|20261102000000|+0800", *calls, f"TRL|{len(calls)}|6000"]
    path = settings.landing_dir / source / f"{source}_20261102_{sequence:06d}.cdr"
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (1_793_560_000, 1_793_560_000))  # 2026-11-01


# --- Commands -------------------------------------------------------------------------------------

READS = "it only reads"
Try = Callable[[Settings, Path], list[str]]

# Every command: how it is tried, or why it cannot touch a cycle.
COMMANDS: dict[str, Try | str] = {
    "run": lambda settings, _: list(STEPS),
    "demo": "it runs the steps, which are tried by `run`",
    "steps": READS, "totals": READS, "status": READS, "version": READS, "bill": READS,
    "explain": READS, "note": READS, "docs": READS,
    "up": "it starts services; what they answer is tried by route", "down": "it stops services",
    "clean": "it deletes the installation, and says so",
    "rollback": lambda settings, _: ["--file", mediated_file(settings), "--why", "x", "--yes"],
    "reload": lambda settings, _: [mediated_file(settings), "--why", "x"],
    "settle-alarm": "it says that somebody saw to a refused file",
    "conformance": "it rates in a warehouse of its own",
    "whatif": lambda settings, _: [
        "--catalogue", str(PROJECT_ROOT / "operational" / "catalogue" / "sample"),
    ],
    "bench mediation": "it works in a home of its own",
    "bench rating": "it works in a home of its own",
    "catalogue validate": READS, "catalogue diff": READS, "catalogue show": READS,
    "catalogue load": lambda _, folder: [str(cheaper_catalogue(folder))],
    "rejects show": READS,
    "rejects correct": lambda settings, _: [
        "--where", "reason=invalid_msisdn", "--set", f"served_msisdn={known_number(settings)}",
        "--why", "x", "--yes", "--now",
    ],
    "rejects recycle": lambda settings, _: ["--where", "status=rejected", "--why", "x", "--yes"],
    "accounts post": lambda *_: [],
    "accounts late-fees": lambda *_: ["--date", "2026-11-20"],
    "accounts dun": lambda *_: ["--date", "2026-11-20"],
    "accounts bank-file": lambda settings, folder: [str(statement(settings, folder))],
    "accounts in-transit": READS, "accounts ageing": READS, "accounts balance": READS,
    "accounts trial-balance": READS, "accounts gl-export": READS, "accounts revenue": READS,
    "accounts close-month": lambda settings, _: [settings.cycle],
    "accounts restate": lambda settings, _: [settings.cycle],
}  # fmt: skip
LAST = ("run", "accounts close-month")  # the steps take in what the others left


def commands() -> list[str]:
    """Every command of the command line, as typed."""

    def leaves(command: Any, name: str) -> Iterator[str]:
        if hasattr(command, "commands"):
            for word, inner in command.commands.items():
                yield from leaves(inner, f"{name} {word}".strip())
        else:
            yield name

    return list(leaves(typer.main.get_command(command_line), ""))


def mediated_file(settings: Settings) -> str:
    with connect(settings) as connection:
        row = connection.execute(
            "select min(file_id) from control.usage_file where status = 'mediated'"
            " and source_id like 'MSC%'"
        ).fetchone()
    assert row
    return str(row[0])


def known_number(settings: Settings) -> str:
    with connect(settings) as connection:
        row = connection.execute("select min(msisdn) from crm.subscription").fetchone()
    assert row
    return str(row[0])


def cheaper_catalogue(folder: Path) -> Path:
    """A version of a plan in use that is in force since before the cycle, and has no fee."""
    sample = PROJECT_ROOT / "operational" / "catalogue" / "sample"
    plans = yaml.safe_load((sample / "plans_4g.yaml").read_text(encoding="utf-8"))
    (plan,) = (each for each in plans["offerings"] if each["offering_id"] == "plan-4g-76")
    *former, newest = plan["versions"]
    since = date(2026, 9, 1)
    number = newest["version_number"] + 1
    free = newest | {"version_number": number, "valid_from": since, "monthly_fee_amount": "0"}
    plan["versions"] = [*former, newest | {"valid_to": since}, free]
    folder = folder / "catalogue"
    folder.mkdir(exist_ok=True)
    (folder / "plans.yaml").write_text(yaml.safe_dump({"offerings": [plan]}, allow_unicode=True))
    shutil.copyfile(sample / "price_lists.yaml", folder / "price_lists.yaml")
    return folder


def statement(settings: Settings, folder: Path) -> Path:
    """A bank statement that pays an account in the cycle."""
    with connect(settings) as connection:
        row = connection.execute("select min(account_id) from crm.account").fetchone()
    path = folder / f"{uuid4().hex}.sta"
    path.write_text(
        "\r\n".join(
            [":20:S1", ":25:CN44ICBC0001", ":28C:00012/001", ":60F:C261005CNY1000,00",
             f":61:2610061006C76,00NTRF{row and row[0]}//B1", ":86:x", ":62F:C261006CNY1076,00",
             "-", ""]
        )
    )  # fmt: skip
    return path


def try_commands(settings: Settings, folder: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Run all that may touch a cycle; what they answer is their affair, a crash is not."""
    tried = [name for name, how in COMMANDS.items() if not isinstance(how, str)]
    for name in (*(name for name in tried if name not in LAST), *LAST):
        how = COMMANDS[name]
        if name in leave_out or isinstance(how, str):
            continue
        result = CliRunner().invoke(command_line, [*name.split(), *how(settings, folder)])
        is_answer = result.exception is None or isinstance(result.exception, SystemExit)
        allowed = (0,) if name == "run" else (0, 1, 3)
        assert is_answer and result.exit_code in allowed, f"{name}: {result.output}"


# --- Routes ---------------------------------------------------------------------------------------

# Every route that changes something: the fields it is tried with (`_as`: by whom, if not by the
# administrator), or why it is not.
Fields = dict[str, Any]
ROUTES: dict[str, Fields | str] = {
    "/sign-in": "it opens a session", "/sign-out": "it ends a session",
    "/orders": {
        "customer_choice": "new", "customer_name": "x", "customer_type": "individual",
        "offering_id": "plan-4g-76", "province_code": "44", "payment_type": "postpaid",
        "bill_language": "zh", "intent": "submit", "msisdn": "{free}",
    },
    "/orders/{order_id}/submit": {}, "/orders/{order_id}/cancel": {},
    "/subscriptions/{subscription_id}/status": {"status": "suspended"},
    "/subscriptions/{subscription_id}/bundle": {"offering_id": "bundle-sample-4g-106-data"},
    "/subscriptions/{subscription_id}/products/{product_instance_id}/end": {},
    "/subscriptions/{subscription_id}/friend-numbers": {"number": "13912345678"},
    "/subscriptions/{subscription_id}/friend-numbers/{friend_number_id}/end": {},
    "/customers/{customer_id}/call-groups": {"name": "x"},
    "/call-groups/{call_group_id}/members": {
        "subscription_id": "{subscription_id}", "short_number": "66001",
    },
    "/call-groups/{call_group_id}/members/{call_group_member_id}/end": {},
    "/cycles/{cycle_id}/state": "every state is tried, see below",
    "/accounts/of/{account_id}/payments": {"amount": "5", "channel": "bank", "key": "{key}"},
    "/accounts/of/{account_id}/refunds": {
        "amount": "1", "channel": "bank", "reason_code": "customer_asks", "key": "{key}",
    },
    "/accounts/of/{account_id}/reversals": {
        "payment_id": "{payment_id}", "reason_code": "payment_returned",
    },
    "/accounts/of/{account_id}/bonuses": {
        "amount": "5", "reason_code": "campaign", "key": "{key}",
    },
    "/accounts/of/{account_id}/security-deposits": {
        "amount": "5", "channel": "bank", "reason_code": "credit", "key": "{key}",
    },
    "/accounts/of/{account_id}/security-deposits/{security_deposit_id}/application": {
        "amount": "1", "key": "{key}",
    },
    "/accounts/of/{account_id}/security-deposits/{security_deposit_id}/return": {
        "amount": "1", "channel": "bank", "reason_code": "no_longer_required",
        "override_reason": "x", "key": "{key}",
    },
    "/accounts/of/{account_id}/notes": {
        "note_type": "credit", "bill_item": "{bill_id}/rent", "amount": "1",
        "reason_code": "wrong_tariff", "explanation": "x", "key": "{key}",
    },
    "/accounts/of/{account_id}/responsibilities": {
        "subscription_id": "{other_line}", "share_percent": "50", "valid_from": "2026-11-01",
        "key": "{key}",
    },
    "/accounts/of/{account_id}/responsibilities/{payment_responsibility_id}": {
        "last_day": "2026-11-20",
    },
    "/accounts/of/{account_id}/members": {"customer_id": "{other_customer}"},
    "/accounts/notes/{note_id:path}": {"decision": "approve", "_as": "finance"},
    "/accounts/bank/files": "a file is imported by the command, over the same service",
    "/accounts/bank/lines": {"bank_line_id": "{bank_line_id}", "what": "payment",
                             "target": "{account_id}"},
    "/catalogue/new-offering": {
        "offering_id": "x{key}", "offering_type": "addon", "name_zh": "x", "name_en": "x",
        "monthly_fee_amount": "1", "valid_from": "{next_day}", "reason": "x", "do": "save",
    },
    # Saved, it would have to be in the files that `prepare` loads again.
    "/catalogue/{offering_id}/new-version": {
        "monthly_fee_amount": "1", "valid_from": "{next_day}", "reason": "x", "do": "preview",
    },
    "/catalogue/{offering_id}/replace-version": {
        "former": "{offering_id}@1", "monthly_fee_amount": "1", "valid_from": "{next_day}",
        "reason": "x", "do": "save",
    },
    "/catalogue/{offering_id}/withdraw-version": {"former": "{offering_id}@1", "reason": "x"},
    "/control/rejects/record": {
        "file": "{file}", "number": "{number}", "why": "x", "set_served_msisdn": "{msisdn}",
    },
    "/control/rejects/bulk": {"kind": "recycle", "why": "x", "intent": "apply", "records": "1"},
    "/control/sources/{source_id}/alarms": "it says that somebody saw to a refused file",
    "/control/rules": {
        "rule_code": "unanswered", "service": "voice", "severity": "off", "reason": "x",
    },
    "/tmf-api/paymentManagement/v4/payment": {
        "account_id": "{account_id}", "amount": "5", "channel": "bank",
        "paid_at": "2026-10-05T09:00:00+08:00",
    },
    "/tmf-api/paymentManagement/v4/payment/{payment_id}/reversal": {"reason_code": "wrong_account"},
    "/tmf-api/paymentManagement/v4/refund": {
        "account_id": "{account_id}", "amount": "1", "channel": "bank",
        "reason_code": "customer_asks",
    },
    "/api/accounts/v1/securityDeposit": {
        "account_id": "{account_id}", "amount": "5", "channel": "bank", "reason_code": "credit",
    },
    "/api/accounts/v1/securityDeposit/{security_deposit_id}/application": {"amount": "1"},
    "/api/accounts/v1/securityDeposit/{security_deposit_id}/return": {
        "amount": "1", "channel": "bank", "reason_code": "no_longer_required",
        "override_reason": "x",
    },
    "/api/accounts/v1/note": {
        "note_type": "credit", "account_id": "{account_id}", "bill_id": "{bill_id}",
        "bill_item_code": "rent", "amount": "1", "reason_code": "wrong_tariff", "explanation": "x",
    },
    "/api/accounts/v1/note/{note_id:path}/decision": {"approve": True, "_as": "finance"},
    "/api/accounts/v1/groupMember": {
        "customer_id": "{other_customer}", "parent_customer_id": "{customer_id}",
    },
    "/api/accounts/v1/paymentResponsibility": {
        "account_id": "{group_account}", "subscription_id": "{other_line}", "share_percent": "10",
        "valid_from": "2026-11-01",
    },
    "/api/accounts/v1/paymentResponsibility/{payment_responsibility_id}/end": {
        "last_day": "2026-11-20",
    },
    "/api/accounts/v1/serviceOrder/{service_order_id}/state": {"state": "done"},
    "/tmf-api/serviceInventory/v4/service/{subscription_id}/status": {"status": "active"},
    "/tmf-api/serviceInventory/v4/service/{subscription_id}/friendNumber": {
        "number": "13912345678",
    },
    "/tmf-api/serviceInventory/v4/service/{subscription_id}/friendNumber/{friend_number_id}/end":
    {},
    "/tmf-api/partyManagement/v4/callGroup": {"customerId": "{customer_id}", "name": "y"},
    "/tmf-api/partyManagement/v4/callGroup/{call_group_id}/member": {
        "subscriptionId": "{subscription_id}", "shortNumber": "66001",
    },
    "/tmf-api/partyManagement/v4/callGroup/{call_group_id}/member/{call_group_member_id}/end": {},
    "/tmf-api/productOrderingManagement/v4/productOrder": {
        "province_code": "44", "customer_name": "x", "offering_id": "plan-4g-76",
        "msisdn": "{free}",
    },
    "/tmf-api/productOrderingManagement/v4/productOrder/bundle": {
        "subscription_id": "{subscription_id}", "offering_id": "bundle-sample-4g-106-data",
    },
    "/tmf-api/productInventory/v4/product/{product_instance_id}/end": {},
}  # fmt: skip


def changing_routes(settings: Settings) -> set[tuple[str, str]]:
    """Method and path of every route that is not for reading."""

    def routes(within: Any) -> Iterator[tuple[str, str]]:
        for route in within:
            if isinstance(route, APIRoute):
                yield from ((method, route.path) for method in route.methods)
            elif hasattr(route, "original_router"):
                yield from routes(route.original_router.routes)

    found = set(routes(create_app(settings).routes))
    return {(method, path) for method, path in found if method not in ("GET", "HEAD", "OPTIONS")}


# What there is nothing to do about by then: the order is complete, the bank line is matched, the
# record is corrected, no line is barred; a tariff is changed by the command.
NOT_FOR_NOW = {
    "/orders/{order_id}/cancel", "/accounts/bank/lines", "/control/rejects/record",
    "/api/accounts/v1/serviceOrder/{service_order_id}/state",
    "/catalogue/{offering_id}/new-version", "/catalogue/{offering_id}/replace-version",
    "/catalogue/{offering_id}/withdraw-version",
    # only the clock knows whether something is overdue
    "/accounts/of/{account_id}/security-deposits/{security_deposit_id}/application",
    "/api/accounts/v1/securityDeposit/{security_deposit_id}/application",
    # of an account that is not a group's
    "/accounts/of/{account_id}/responsibilities", "/accounts/of/{account_id}/members",
    "/accounts/of/{account_id}/responsibilities/{payment_responsibility_id}",
}  # fmt: skip


_ALONE = "from crm.customer where customer_type = 'individual'"
_REJECT = (
    "from control.rejected_record where status = 'rejected' and served_msisdn <> ''"
    " order by file_id, record_number limit 1"
)


def places(settings: Settings) -> dict[str, str]:
    """What stands in the places of paths and fields."""
    queries = {
        "account_id": "select min(account_id) from crm.account",
        "bill_id": "select min(bill_id) from billing.bill",
        "payment_id": "select min(payment_id) from billing.payment as pay where not exists"
        " (select 1 from billing.payment as rev where rev.reverses_payment_id = pay.payment_id)"
        " and pay.payment_type = 'payment'",
        "free": "select max(msisdn) from resource.msisdn where status = 'free'"
        " and province_code = '44' and msisdn like '861%'",
        "file": f"select file_id {_REJECT}",
        "number": f"select record_number {_REJECT}",
        "msisdn": "select min(msisdn) from crm.subscription",
        "subscription_id": "select min(subscription_id) from crm.subscription"
        " where valid_to is null",
        "other_customer": f"select max(customer_id) {_ALONE}",
        "other_line": "select max(subscription_id) from crm.subscription"
        " join crm.account using (account_id)"
        f" where customer_id = (select max(customer_id) {_ALONE})",
        "group_account": "select min(account_id) from crm.account where customer_id ="
        " (select min(customer_id) from crm.customer where customer_type = 'group')",
        "payment_responsibility_id": "select max(payment_responsibility_id)"
        " from billing.payment_responsibility",
        "product_instance_id": "select max(product_instance_id) from crm.product_instance"
        " where role = 'bundle' and valid_to is null",
        "friend_number_id": "select max(friend_number_id) from crm.friend_number",
        "customer_id": "select min(customer_id) from crm.customer where customer_type = 'group'",
        "call_group_id": "select max(call_group_id) from crm.call_group",
        "call_group_member_id": "select max(call_group_member_id) from crm.call_group_member",
        "security_deposit_id": "select max(security_deposit_id) from billing.security_deposit",
        "note_id": "select max(note_id) from billing.adjustment_note where state = 'requested'",
        "order_id": "select max(order_id) from crm.customer_order",
        "bank_line_id": "select max(bank_line_id) from billing.bank_line",
        "next_day": "select cast(now() as date) + 2",
        "service_order_id": "select max(service_order_id) from billing.service_order",
    }
    with connect(settings) as connection:
        found = {name: connection.execute(query).fetchone() for name, query in queries.items()}
    values = {name: str((row and row[0]) or "1") for name, row in found.items()}
    return values | {"cycle_id": settings.cycle, "offering_id": "plan-4g-56", "key": uuid4().hex}


@contextmanager
def signed_in(settings: Settings, username: str = "admin") -> Iterator[TestClient]:
    """A browser with a user's session."""
    application = create_app(settings)
    with TestClient(application, follow_redirects=False) as client:
        with connect(settings) as connection:
            row = connection.execute(
                "select session_epoch from identity.app_user where username = %s", (username,)
            ).fetchone()
        assert row
        signer = application.state.installation.signer
        client.cookies.set(SESSION_COOKIE, signer.dump(signer.new(username, row[0])))
        yield client


def inputs(client: TestClient, page: str) -> Fields:
    """What stands in the fields of a page's forms, the token among them."""
    text = client.get(page).text
    return dict(re.findall(r'<input[^>]*name="([\w-]+)"[^>]*?value="([^"]*)"', text))


def try_routes(settings: Settings) -> dict[str, int]:
    """Send every changing request there is; the answers' status by path."""
    answers = {}
    for path, sent in ROUTES.items():
        if isinstance(sent, str):
            continue
        of = places(settings)
        fields = {
            name: value.format(**of) if isinstance(value, str) else value
            for name, value in sent.items()
        }
        username, url = fields.pop("_as", "admin"), path.replace(":path", "").format(**of)
        with signed_in(settings, username) as client:
            if path.startswith(("/tmf-api", "/api")):
                answer = client.post(
                    url, json=fields, auth=(username, "tollhouse"),
                    headers={"Idempotency-Key": of["key"]},
                )  # fmt: skip
            else:
                form = inputs(client, "/cycles")
                if path.endswith("/new-version"):
                    form = sent_fields(client.get(url).text, url)
                answer = client.post(url, data=form | fields)
        assert answer.status_code < 500, f"{path}: {answer.text}"
        answers[path] = answer.status_code
    return answers


def try_states(settings: Settings, states: tuple[str, ...]) -> None:
    with signed_in(settings) as client:
        for state in states:
            sent = inputs(client, "/cycles") | {"to_state": state, "reason": "x"}
            answer = client.post(f"/cycles/{settings.cycle}/state", data=sent)
            assert answer.status_code in (303, 409), (state, answer.text)


def state_of(settings: Settings) -> str:
    with connect(settings) as connection:
        row = connection.execute(
            "select state from billing.billing_cycle where cycle_id = %s", (settings.cycle,)
        ).fetchone()
    assert row
    return str(row[0])


# --- The tests ------------------------------------------------------------------------------------


def test_every_command_is_tried_or_cannot_touch_a_cycle() -> None:
    assert set(commands()) == set(COMMANDS)
    assert set(DEMO_JOB) <= set(STEPS)


def test_every_task_of_every_dag_is_a_step_and_nothing_else() -> None:
    for path in sorted(DAGS_DIR.glob("*.py")):
        used = [
            node.attr for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pipeline"
        ]  # fmt: skip
        assert set(used) == {"run_step", "TASK_DEFAULTS"}, path.name
        steps = re.findall(r'pipeline\.run_step\("(\w+)"\)', path.read_text("utf-8"))
        assert len(steps) == used.count("run_step"), path.name
        assert set(steps) <= set(STEPS), path.name


def test_every_route_that_changes_something_is_tried(home: Settings) -> None:
    found = changing_routes(home)
    assert {method for method, _ in found} == {"POST"}
    assert {path for _, path in found} == set(ROUTES)


def test_an_approved_cycle_stays_as_it_is(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: home)
    on_trial = month_totals(home, principal=FINANCE, cycle_id=home.cycle)
    assert {total.hop_number for total in on_trial} == {*range(1, 11), 15, 16}
    assert all(total.is_tied for total in on_trial)
    # What is not final yet is revenue that is not billed, before rounding and net of tax.
    not_billed = [total.left_value for total in on_trial if total.hop_number == 15]
    assert all(amount > 0 for amount in not_billed)
    assert exported_accrual(home) == not_billed[1]
    change = "update billing.bill_item set amount = amount + {} where bill_item_key ="
    first = " (select min(bill_item_key) from billing.bill_item)"
    for amount, state in (("0.01", "trial"), ("-0.01", "approved")):
        with open_warehouse(home, "test", 60) as warehouse:
            warehouse.execute(change.format(amount) + first)
        try_states(home, ("approved",))  # refused while an item is not what its charges come to
        assert state_of(home) == state
    before = prints_of(home)
    disturb(home, 1)
    try_routes(home)
    try_states(home, ("open", "cut_off", "trial"))
    steps = [name for name in STEPS if name not in ("close_cycle", "score", "report")]
    monkeypatch.setitem(COMMANDS, "run", lambda settings, _: steps)
    try_commands(home, tmp_path, leave_out=("whatif", "accounts close-month"))
    after = prints_of(home)
    served = {name for name in after if name.startswith("served")}  # published meanwhile
    assert differing(before, {n: p for n, p in after.items() if n not in served}) == []


def exported_accrual(settings: Settings) -> Decimal:
    """What the export of the cycle's month accrues."""
    days = ["--from", "2026-10-01", "--to", "2026-10-31", "--json"]
    result = CliRunner().invoke(command_line, ["accounts", "gl-export", *days])
    found = json.loads(result.stdout)
    assert (found["debit"], found["unbilled"]["problem"]) == (found["credit"], None)
    return Decimal(found["unbilled"]["amount"])


def test_a_final_cycle_stays_as_it_is(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: home)
    for step in ("close_cycle", "publish"):
        run_step(step, home)
    before = prints_of(home)
    assert not any(found.startswith("0 ") for found in operational_prints(home).values())
    disturb(home, 2)
    answers = try_routes(home)
    refused = {path for path, status in answers.items() if status >= 400}
    assert refused <= NOT_FOR_NOW, "what is tried must be what is done"
    try_states(home, CYCLE_STATES)
    assert differing(before, prints_of(home)) == []
    try_commands(home, tmp_path)
    assert differing(before, prints_of(home)) == []
    result = CliRunner().invoke(command_line, ["totals", "--month", home.cycle])
    assert result.exit_code == 0, result.output
    with signed_in(home) as client:
        page = client.get(f"/cycles/{home.cycle}/totals").text
        assert ("各环节均平衡" in page, "Beancount" in page) == (True, True)
        rows = client.get(
            f"/api/billing/v1/billingCycle/{home.cycle}/controlTotal", auth=("admin", "tollhouse")
        ).json()
        assert rows and all(row["isTied"] for row in rows)
    with connect(home) as connection:  # what came late was taken in, and went elsewhere
        late = connection.execute(
            "select count(*) from control.usage_file where file_name like '%\\_9000__.cdr'"
            " and status = 'mediated'"
        ).fetchone()
    assert late == (2,)


CYCLE_ROWS = "bill_id in (select bill_id from billing.bill where cycle_id = '2026-10')"
REFUSED = (
    *(f"update billing.billing_cycle set state = '{state}' where cycle_id = '2026-10'"
      for state in CYCLE_STATES if state != "final"),
    "update billing.billing_cycle set ends_at = ends_at + interval '1 day'",
    "delete from billing.billing_cycle",
    "truncate billing.billing_cycle cascade",
    "update billing.bill set content_hash = 'x'",
    "delete from billing.bill",
    "insert into billing.bill select (jsonb_populate_record(bil, '{\"bill_id\": \"x\"}')).*"
    " from billing.bill as bil limit 1",
    "truncate billing.bill cascade",
    f"update billing.bill_item set amount = amount + 1 where {CYCLE_ROWS}",
    f"delete from billing.bill_item where {CYCLE_ROWS}",
    "insert into billing.bill_item"
    " select (jsonb_populate_record(itm, '{\"bill_item_key\": \"x\"}')).*"
    " from billing.bill_item as itm limit 1",
    "truncate billing.bill_item",
    f"update billing.bill_movement set amount = amount + 1 where {CYCLE_ROWS}",
    f"delete from billing.bill_movement where {CYCLE_ROWS}",
    "truncate billing.bill_movement",
    *(f"{verb} billing.{table}{rest}"
      for table in ("ledger_entry", "ledger_line", "payment", "billing_cycle_event")
      for verb, rest in (
          ("update", " set created_at = now()" if table != "billing_cycle_event"
           else " set reason = 'x'"),
          ("delete from", ""), ("truncate", " cascade"),
      )),
    "update billing.open_item set amount = amount + 1",
    "update billing.open_item set open_amount = 0",
    "delete from billing.open_item",
    "insert into billing.ledger_line (entry_id, line_number, ledger_code, amount)"
    " select min(entry_id), 99, 'revenue', 1 from billing.ledger_entry",
)  # fmt: skip

# By a guard, or by what refers to the row or is like it.
REFUSALS = (
    psycopg.errors.RestrictViolation, psycopg.errors.ForeignKeyViolation,
    psycopg.errors.UniqueViolation,
)  # fmt: skip


@pytest.mark.parametrize("statement", REFUSED)
def test_the_database_refuses_to_change_a_final_cycle(home: Settings, statement: str) -> None:
    assert state_of(home) == "final", "of a cycle that the tests above made final"
    before = operational_prints(home)
    with pytest.raises(REFUSALS), connect(home) as connection:
        connection.execute(statement)
    assert operational_prints(home) == before
