"""What the models' unit tests claim holds on every engine."""

from __future__ import annotations

import pytest

from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import transform

pytestmark = pytest.mark.pipeline


@pytest.mark.parametrize("engine", ["small_carrier", "on_postgres"])
def test_every_unit_test_holds(engine: str, request: pytest.FixtureRequest) -> None:
    settings: Settings = request.getfixturevalue(engine)
    claimed = sum(
        path.read_text().count("\n    model: ")
        for path in (PROJECT_ROOT / "dbt" / "models").rglob("*.yml")
    )
    result = transform(settings, ["test_type:unit"], command="test")
    assert result.succeeded == claimed >= 25
