"""What holds for all scenarios."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The environment as it was: scenarios of other time zones leave theirs to dbt in it."""
    former = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(former)
