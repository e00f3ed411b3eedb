"""Bring Airflow up to date: its tables, who may sign in, and the pool that keeps one writer.

Run as a program in Airflow's environment; running it again changes nothing.
"""

from __future__ import annotations

from airflow.models.pool import Pool
from airflow.utils.db import upgradedb

from tollhouse.services.airflow import WRITER_POOL, write_passwords
from tollhouse.settings import get_settings


def main() -> None:
    """Migrate, then make the pool: tasks that write the warehouse take its only slot."""
    write_passwords(get_settings())
    upgradedb()
    Pool.create_or_update_pool(
        WRITER_POOL,
        slots=1,
        description="数仓同一时间只有一个写入者 one writer of the warehouse at a time",
        include_deferred=False,
    )


if __name__ == "__main__":
    main()
