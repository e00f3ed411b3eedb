"""Interconnect agreements."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from operational.settlement.service import SAMPLE_AGREEMENTS, AgreementError, load_agreements
from tollhouse.settings import Settings


def sample() -> Any:
    return yaml.safe_load(SAMPLE_AGREEMENTS.read_text(encoding="utf-8"))


def write(path: Path, card: Any) -> Path:
    path.write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    return path


def test_rates_are_symmetric_until_2013_and_asymmetric_from_2014(
    operational: Settings, psql: Any
) -> None:
    with psql() as connection:
        rates = connection.execute(
            "select direction, rate_amount from settlement.agreement_rate"
            " where valid_from <= %(at)s and (valid_to is null or %(at)s < valid_to)"
            " order by direction",
            {"at": "2013-12-31 23:59+08"},
        ).fetchall()
        assert rates == [("payable", Decimal("0.06")), ("receivable", Decimal("0.06"))]
        rates = connection.execute(
            "select direction, rate_amount from settlement.agreement_rate"
            " where valid_from <= %(at)s and (valid_to is null or %(at)s < valid_to)"
            " order by direction",
            {"at": "2014-01-01 00:00+08"},
        ).fetchall()
        assert rates == [("payable", Decimal("0.04")), ("receivable", Decimal("0.06"))]


def test_loading_again_inserts_nothing(operational: Settings) -> None:
    assert set(load_agreements(operational).values()) == {0}


def test_a_rate_that_is_there_is_not_changed(operational: Settings, tmp_path: Path) -> None:
    card = sample()
    card["agreements"][0]["rates"][3]["rate_amount"] = "0.05"
    with pytest.raises(AgreementError, match="CMCC-VOICE@2 voice payable is already loaded"):
        load_agreements(operational, write(tmp_path / "agreements.yaml", card))


def test_overlapping_and_missing_rates_are_refused_by_name(
    operational: Settings, tmp_path: Path
) -> None:
    card = sample()
    del card["agreements"][0]["rates"][0]["valid_to"]
    with pytest.raises(AgreementError, match="CMCC-VOICE@1 voice receivable and CMCC-VOICE@2"):
        load_agreements(operational, write(tmp_path / "agreements.yaml", card))
    card = sample()
    card["agreements"][0]["rates"] = card["agreements"][0]["rates"][::2]
    with pytest.raises(AgreementError, match="missing rate for voice payable"):
        load_agreements(operational, write(tmp_path / "agreements.yaml", card))
