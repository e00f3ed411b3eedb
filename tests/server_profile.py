"""A home on the server profile, with a PostgreSQL of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tollhouse.postgres import EmbeddedServer, database_url
from tollhouse.settings import Profile, Settings


@contextmanager
def server_profile(
    tmp_path_factory: pytest.TempPathFactory, name: str, **given: Any
) -> Iterator[Settings]:
    """An empty home and two databases, which are gone afterwards; other settings as given."""
    host = Settings(home=tmp_path_factory.mktemp(f"{name}-host"))
    try:
        yield Settings(
            home=tmp_path_factory.mktemp(name), profile=Profile.server,
            operational_url=database_url(host, "operational"),
            warehouse_url=database_url(host, "warehouse"),
            secret_key="a secret of this test", admin_password="a password of this test",
            **given,
        )  # fmt: skip
    finally:
        EmbeddedServer(host.home).remove()
