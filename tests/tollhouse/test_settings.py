"""Settings refuse what would be unsafe or make no sense, in words that name the variable."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tollhouse.settings import Settings

SERVER = {
    "profile": "server",
    "operational_url": "postgresql://u:p@127.0.0.1/a",
    "warehouse_url": "postgresql://u:p@127.0.0.1/b",
    "secret_key": "long enough to sign with",
    "admin_password": "chosen here",
}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"host": "192.0.2.7"}, "TOLLHOUSE_SECRET_KEY must be set"),
        ({"host": "192.0.2.7", "secret_key": "x" * 20}, "TOLLHOUSE_ADMIN_PASSWORD must be set"),
        ({"secret_key": ""}, "TOLLHOUSE_SECRET_KEY needs at least"),
        ({"admin_password": ""}, "TOLLHOUSE_ADMIN_PASSWORD must not be empty"),
        (SERVER | {"admin_password": "tollhouse"}, "TOLLHOUSE_ADMIN_PASSWORD must be set"),
        (SERVER | {"warehouse_url": None}, "TOLLHOUSE_WAREHOUSE_URL"),
        (SERVER | {"warehouse_url": SERVER["operational_url"]}, "must be two"),
        ({"cycle": "2026-13"}, "cycle"),
    ],
)
def test_an_unsafe_or_senseless_setting_is_refused_by_name(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**wrong)
    assert named in str(refused.value)


def test_a_refusal_does_not_repeat_the_secrets() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**SERVER | {"warehouse_url": None, "admin_password": "hunter2hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_whole_server_profile_is_accepted() -> None:
    assert Settings(**SERVER).profile == "server"
