"""One embedded database for all tests of the operational module, with a few customers in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from operational import database, loading
from operational.app import create_app
from operational.catalogue.service import load_catalogue
from operational.identity.service import ensure_admin
from operational.security import SESSION_COOKIE
from operational.settlement.service import load_agreements
from tests.operational.accounts_books import books as new_books
from tests.operational.accounts_books import clear, make_template
from tollhouse.postgres import EmbeddedServer, operational_url
from tollhouse.settings import Settings

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def sample_tables() -> dict[str, list[dict[str, Any]]]:
    """Four customers: two in Guangdong (44), one in Beijing (11), one in Sichuan (51)."""
    people = [("王伟", "44"), ("李娜", "44"), ("张敏", "11"), ("刘洋", "51")]
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in loading.TABLES}
    for number, (name, province) in enumerate(people, start=1):
        shared = {"province_code": province}
        msisdn = f"8618600000{number:03d}"
        tables["crm.customer"].append(
            {
                "customer_id": f"C{number:07d}", "customer_type": "individual", "name": name,
                "id_number": f"{province}010119800101{number:04d}", "segment": None,
            }
            | shared
        )  # fmt: skip
        tables["crm.account"].append(
            {
                "account_id": f"A{number:07d}", "customer_id": f"C{number:07d}",
                "account_name": name, "bill_language": "zh", "status": "active",
            }
            | shared
        )  # fmt: skip
        tables["crm.subscription"].append(
            {
                "subscription_id": f"S{number:07d}", "account_id": f"A{number:07d}",
                "msisdn": msisdn, "imsi": f"46001{number:010d}", "service_type": "mobile",
                "payment_type": "postpaid", "status": "active", "valid_from": SINCE,
                "valid_to": None,
            }
            | shared
        )  # fmt: skip
        tables["crm.product_instance"].append(
            {
                "product_instance_id": f"P{number:07d}", "subscription_id": f"S{number:07d}",
                "offering_id": "plan-4g-76", "role": "plan", "valid_from": SINCE,
                "valid_to": None,
            }
        )  # fmt: skip
        tables["resource.msisdn"].append({"msisdn": msisdn, "status": "assigned"} | shared)
        tables["billing.payment"].append(
            {
                "payment_id": f"PAY{number}", "account_id": f"A{number:07d}", "paid_at": SINCE,
                "amount": Decimal("50.00"), "currency_code": "CNY", "channel": "bank",
                "idempotency_key": f"bank-{number}",
            }
            | shared
        )  # fmt: skip
    for number in range(40):
        province = ("11", "44")[number % 2]
        tables["resource.msisdn"].append(
            {"msisdn": f"86185{number:08d}", "province_code": province, "status": "free"}
        )
    tables["settlement.trunk_group"].append(
        {
            "trunk_group_id": "CMCC-44-IN1", "operator_code": "CMCC", "direction": "in",
            "province_code": "44",
        }
    )  # fmt: skip
    return tables


def write_tables(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """Write rows as the parquet files load_tables takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def operational(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A started, migrated and filled operational database."""
    home = tmp_path_factory.mktemp("operational")
    settings = Settings(home=home)
    try:
        database.upgrade(settings)
        load_catalogue(settings)
        load_agreements(settings)
        ensure_admin(settings)
        loading.load_tables(settings, write_tables(home / "seed", sample_tables()))
        yield settings
    finally:
        EmbeddedServer(home).remove()


Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


@pytest.fixture(scope="session")
def psql(operational: Settings) -> Connect:
    """Plain connections past all services, as somebody with psql has them."""
    url = operational_url(operational)

    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(url) as connection:
            yield connection

    return connect


@pytest.fixture(scope="session")
def books_host(operational: Settings) -> Settings:
    """The tests' server, with the template that books of accounts are made from."""
    tables = {name: rows for name, rows in sample_tables().items() if name != "billing.payment"}
    make_template(operational, write_tables(operational.home / "books", tables))
    return operational


@pytest.fixture(scope="session")
def shared_books(books_host: Settings) -> Iterator[Settings]:
    """The database of `books`."""
    with new_books(books_host) as settings:
        yield settings


@pytest.fixture
def books(shared_books: Settings) -> Settings:
    """Books of four accounts that owe nothing: whatever a test before did to them is undone."""
    clear(shared_books)
    return shared_books


@pytest.fixture(scope="session")
def application(operational: Settings) -> Any:
    """The web application over that database."""
    return create_app(operational)


@pytest.fixture
def browser(application: Any, psql: Connect) -> Iterator[Callable[..., TestClient]]:
    """Makes browsers, signed in as a user (or nobody)."""
    opened: list[TestClient] = []

    def sign_in(username: str | None = None, language: str = "zh") -> TestClient:
        client = TestClient(application, follow_redirects=False)
        opened.append(client)
        client.get(f"/language/{language}")
        if username is not None:  # as after signing in; the sign-in itself has its own tests
            with psql() as connection:
                found = connection.execute(
                    "select session_epoch from identity.app_user where username = %s", (username,)
                ).fetchone()
            signer = application.state.installation.signer
            session = signer.new(username, found[0] if found else 0)
            client.cookies.set(SESSION_COOKIE, signer.dump(session))
        return client

    yield sign_in
    for client in opened:
        client.close()
