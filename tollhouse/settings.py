"""Every setting of Tollhouse, read from ``TOLLHOUSE_*`` environment variables.

A setting is named here once, with its meaning; nothing else in the project reads the environment.
Passwords of other people's machines are not settings: the user names their variables, and
`read_secret` reads them.
"""

from __future__ import annotations

import getpass
import os
import re
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent

# Shipped for a machine nobody else reaches; refused everywhere else.
EMBEDDED_SECRET = "only-for-the-embedded-profile"  # noqa: S105
EMBEDDED_PASSWORD = "tollhouse"  # noqa: S105
MIN_SECRET_LENGTH = 12
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


class Profile(StrEnum):
    """Where the two databases live (docs/architecture.md, "Engines")."""

    embedded = "embedded"
    server = "server"


class Settings(BaseSettings):
    """Settings of one installation; field ``x`` is read from ``TOLLHOUSE_X``."""

    model_config = SettingsConfigDict(
        env_prefix="TOLLHOUSE_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    home: Path = Field(
        PROJECT_ROOT / "var", description="Folder of all state: files, databases, reports, logs."
    )
    profile: Profile = Field(
        Profile.embedded, description="embedded: PostgreSQL from the wheel and one DuckDB file."
    )
    operational_url: str | None = Field(
        None, description="server profile: postgresql://… of the operational database."
    )
    warehouse_url: str | None = Field(
        None, description="server profile: postgresql://… of the warehouse database."
    )
    timezone: str = Field("Asia/Shanghai", description="Civil time of cycles and time bands.")
    carrier_name: str = Field(
        "", description='Who issues the bills; default "The carrier", 电信运营公司.'
    )
    carrier_tax_number: str = Field(
        "", description="The issuer's tax number on bills and invoices; default none."
    )
    cycle: Annotated[str, StringConstraints(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")] = Field(
        "2026-10",
        description="The first billing cycle (calendar month); the one the demo simulates.",
    )
    subscribers: int = Field(2000, ge=20, description="Subscribers of the simulated carrier.")
    days: int | None = Field(
        None, ge=1, le=31, description="Simulated days from the cycle's first; default all."
    )
    seed: int = Field(20261001, description="Seed of the simulator: same seed, same files.")
    sources_dir: Path | None = Field(
        None, description="Folder with your own sources.yaml and formats/*.yaml; default none."
    )
    archive_days: int = Field(
        400, ge=1, description="Days the original of a mediated file is kept at least."
    )
    raw_days: int = Field(
        120, ge=1, description="Days the raw records of a mediated file are kept at least."
    )
    quarantine_days: int = Field(
        400, ge=1, description="Days the original of a refused file is kept for somebody's look."
    )
    threads: int = Field(
        2, ge=1, description="Threads of the warehouse engine and of dbt; processes that decode."
    )
    memory: Annotated[str, StringConstraints(pattern=r"^\d+(MB|GB)$")] = Field(
        "3GB", description="Memory the warehouse engine may use; what is more goes to disk."
    )
    usages_at_once: int = Field(
        2_000_000, ge=1, description="Usages rated at a time: the more, the more memory it takes."
    )
    host: str = Field("127.0.0.1", description="Address the services of `make up` listen on.")
    web_port: int = Field(8000, description="Web module (CRM, orders, bills).")
    airflow_port: int = Field(8080, description="Airflow.")
    superset_port: int = Field(8088, description="Superset.")
    secret_key: SecretStr = Field(
        SecretStr(EMBEDDED_SECRET), description="Signs sessions and tokens of all services."
    )
    admin_password: SecretStr = Field(
        SecretStr(EMBEDDED_PASSWORD), description="Password of the first user of every service."
    )

    @model_validator(mode="after")
    def _refuse_unsafe_secrets(self) -> Settings:
        """The shipped secrets are for one machine that nobody else reaches."""
        wrong = []
        if len(self.secret_key.get_secret_value()) < MIN_SECRET_LENGTH:
            wrong.append(f"TOLLHOUSE_SECRET_KEY needs at least {MIN_SECRET_LENGTH} characters")
        if not self.admin_password.get_secret_value():
            wrong.append("TOLLHOUSE_ADMIN_PASSWORD must not be empty")
        is_exposed = self.profile is not Profile.embedded or self.host not in LOOPBACK_HOSTS
        if is_exposed and self.secret_key.get_secret_value() == EMBEDDED_SECRET:
            wrong.append("TOLLHOUSE_SECRET_KEY must be set")
        if is_exposed and self.admin_password.get_secret_value() == EMBEDDED_PASSWORD:
            wrong.append("TOLLHOUSE_ADMIN_PASSWORD must be set")
        if wrong:
            raise ValueError(f"profile '{self.profile}' on {self.host}: {'; '.join(wrong)}")
        return self

    @model_validator(mode="after")
    def _refuse_half_a_server_profile(self) -> Settings:
        if self.profile is Profile.embedded:
            return self
        for name in ("operational_url", "warehouse_url"):
            if not getattr(self, name):
                raise ValueError(f"profile '{self.profile}' needs TOLLHOUSE_{name.upper()}")
        if self.operational_url == self.warehouse_url:
            raise ValueError(
                "TOLLHOUSE_OPERATIONAL_URL and TOLLHOUSE_WAREHOUSE_URL name the same database: "
                "both have schemas called billing and dm, so they must be two"
            )
        return self

    # Folders below `home`, each named once.
    @property
    def landing_dir(self) -> Path:
        """Where network elements put their files: ``landing/<source_id>/<file name>``."""
        return self.home / "landing"

    @property
    def archive_dir(self) -> Path:
        """Originals of collected files, by source."""
        return self.home / "archive"

    @property
    def quarantine_dir(self) -> Path:
        """Originals of rejected files, by source, for people to look at."""
        return self.home / "quarantine"

    @property
    def raw_dir(self) -> Path:
        """Raw records as Parquet parts, by the batch that landed them."""
        return self.home / "raw" / "usage_record"

    @property
    def seed_dir(self) -> Path:
        """The simulator's operational tables and its truth file."""
        return self.home / "simulated"

    @property
    def warehouse_file(self) -> Path:
        """The DuckDB file of the embedded profile."""
        return self.home / "warehouse.duckdb"

    @property
    def analyst_file(self) -> Path:
        """Read-only copy of the warehouse for detail queries, swapped in by atomic rename."""
        return self.home / "serving" / "warehouse.duckdb"

    @property
    def report_dir(self) -> Path:
        """KPI reports, one HTML file a cycle."""
        return self.home / "reports"

    @property
    def log_dir(self) -> Path:
        """Logs of services and of dbt."""
        return self.home / "logs"

    def scratch(self, folder: str) -> Settings:
        """These settings for a warehouse of its own, a file in a folder of this home."""
        return self.model_copy(
            update={
                "home": self.home / folder, "profile": Profile.embedded,
                "operational_url": None, "warehouse_url": None,
            }
        )  # fmt: skip

    @property
    def cycle_compact(self) -> str:
        """The cycle as yyyymm, for file names."""
        return re.sub("-", "", self.cycle)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process (environment read once)."""
    return Settings()


def process_user() -> str | None:
    """The operating system's name for who runs this process; None where he has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


class MissingSecretError(RuntimeError):
    """An environment variable that is to hold a secret is not set; the message names it."""


def read_secret(variable: str, purpose: str) -> SecretStr:
    """The value of an environment variable that the user's configuration names.

    Raises:
        MissingSecretError: it is not set, or empty.
    """
    value = os.environ.get(variable)
    if not value:
        raise MissingSecretError(f"the environment variable {variable} ({purpose}) is not set")
    return SecretStr(value)
