"""What a service is: programs to run, a port, a way to see that it is well, and who may sign in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from tollhouse.services.processes import Program
from tollhouse.settings import Profile, Settings

ADMINISTRATOR = "admin"
HEALTH_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class SignIn:
    """A user of a service; outside the embedded profile `password` says where it was set."""

    username: str
    password: str


@dataclass(frozen=True)
class Service:
    """A service of `make up`.

    `preparation` runs to its end first, then `programs` run until they are stopped.
    """

    name: str
    title: str
    url: str
    port: int
    port_setting: str
    programs: Sequence[Program]
    is_healthy: Callable[[], bool]
    preparation: Program | None = None
    sign_ins: Sequence[SignIn] = ()


def local_url(settings: Settings, port: int) -> str:
    """Address of a port of this machine, for whoever sits at it."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://{host}:{port}"


def answers(url: str) -> bool:
    """Whether a page is served at the address."""
    try:
        return httpx.get(url, timeout=HEALTH_TIMEOUT_S).is_success
    except httpx.HTTPError:
        return False


def sign_ins(settings: Settings, *usernames: str) -> tuple[SignIn, ...]:
    """Users made at start; only the administrator outside the embedded profile."""
    if settings.profile is Profile.embedded:
        password = settings.admin_password.get_secret_value()
        return tuple(SignIn(username, password) for username in (ADMINISTRATOR, *usernames))
    return (SignIn(ADMINISTRATOR, "TOLLHOUSE_ADMIN_PASSWORD"),)


def environment(settings: Settings) -> dict[str, str]:
    """Our own environment with exactly these settings, for programs that read them again."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    values["home"] = settings.home.resolve()
    inherited = {key: value for key, value in os.environ.items() if key[:10] != "TOLLHOUSE_"}
    return inherited | {
        f"TOLLHOUSE_{name.upper()}": (
            value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        )
        for name, value in values.items()
        if value is not None
    }


def derive_key(settings: Settings, purpose: str) -> str:
    """A key of its own for each purpose, from the one secret (32 bytes, URL-safe base64)."""
    secret = settings.secret_key.get_secret_value().encode()
    return base64.urlsafe_b64encode(hmac.digest(secret, purpose.encode(), hashlib.sha256)).decode()
