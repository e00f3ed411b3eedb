"""A cycle under a proposed catalogue: what was billed, or what it changes, and nothing else."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from operational.catalogue.findings import CatalogueError
from tollhouse import cli
from tollhouse.cycle_copy import CycleCopyError
from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import open_warehouse
from tollhouse.whatif import WhatIf, what_if

pytestmark = pytest.mark.pipeline

SAMPLE = PROJECT_ROOT / "operational" / "catalogue" / "sample"


def total(answer: WhatIf) -> Any:
    return next(line for line in answer.lines if line.dimension == "total")


def proposal(folder: Path, change: Any) -> Path:
    """The sample catalogue with one change of its text."""
    for file in SAMPLE.glob("*.yaml"):
        (folder / file.name).write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def require_what_was_billed(answer: WhatIf) -> None:
    assert total(answer).billed_amount > 0
    assert all(line.difference == 0 for line in answer.lines)
    assert (total(answer).winners, total(answer).losers) == (0, 0)
    assert answer.most_changed == []


def test_the_catalogue_in_force_gives_what_was_billed(small_carrier: Settings) -> None:
    before = hashlib.sha256(small_carrier.warehouse_file.read_bytes()).hexdigest()
    require_what_was_billed(what_if(small_carrier, [SAMPLE], small_carrier.cycle))
    assert hashlib.sha256(small_carrier.warehouse_file.read_bytes()).hexdigest() == before


def test_a_cycle_billed_on_postgresql_gives_the_same_answer(
    small_carrier: Settings, on_postgres: Settings, tmp_path: Path
) -> None:
    require_what_was_billed(what_if(on_postgres, [SAMPLE], on_postgres.cycle))

    proposed = proposal(tmp_path, lambda text: text.replace('"0.15"', '"0.25"'))
    answers = [
        what_if(settings, [proposed], settings.cycle) for settings in (small_carrier, on_postgres)
    ]
    assert answers[0].lines == answers[1].lines
    assert total(answers[0]).losers > 0


def test_a_dearer_fee_costs_its_holders_the_difference_and_nobody_else(
    small_carrier: Settings, tmp_path: Path
) -> None:
    def dearer(text: str) -> str:
        return text.replace('monthly_fee_amount: "76"', 'monthly_fee_amount: "86"')

    answer = what_if(small_carrier, [proposal(tmp_path, dearer)], small_carrier.cycle)

    with open_warehouse(small_carrier, "count days") as warehouse:
        fees = warehouse.rows(
            "select offering_id, held_days, cycle_days, amount from billing.recurring_charge"
            " where cycle_id = ?",
            [small_carrier.cycle],
        )
    fen = Decimal("0.01")
    expected = sum(
        (Decimal(86) * days / of_days).quantize(fen, "ROUND_HALF_UP") - amount
        for offering, days, of_days, amount in fees
        if offering == "plan-4g-76"
    )
    assert expected > 0
    assert total(answer).difference == expected
    changed = {line.name for line in answer.lines if line.dimension == "offering" and line.losers}
    assert changed == {"plan-4g-76"}
    assert total(answer).winners == 0


def test_a_wrong_proposal_is_refused_with_its_rows_named(
    small_carrier: Settings, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("offerings: [{offering_id: x}]", encoding="utf-8")

    with pytest.raises(CatalogueError, match=r"wrong\.yaml"):
        what_if(small_carrier, [wrong], small_carrier.cycle)


def test_a_cycle_without_bills_is_refused(small_carrier: Settings) -> None:
    with pytest.raises(CycleCopyError, match="2020-01 has no bills"):
        what_if(small_carrier, [SAMPLE], "2020-01")


def test_the_command_prints_revenue_and_who_pays_more(
    small_carrier: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLHOUSE_HOME", str(small_carrier.home))
    monkeypatch.setenv("TOLLHOUSE_SUBSCRIBERS", str(small_carrier.subscribers))
    result = CliRunner().invoke(
        cli.app, ["whatif", "--catalogue", str(SAMPLE), "--cycle", small_carrier.cycle, "--json"]
    )

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["lines"][0]["difference"] == "0.00"
    assert len(document["versions"]) >= 9
