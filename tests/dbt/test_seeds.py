"""The seeds that mediation reads are right."""

from __future__ import annotations

import csv

import phonenumbers
import pytest

from tollhouse.settings import PROJECT_ROOT

SEEDS = PROJECT_ROOT / "dbt" / "seeds" / "ods"


def seed(name: str) -> list[dict[str, str]]:
    with (SEEDS / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS - {"CN"}))
def test_the_longest_calling_code_reaches_the_country_of_a_number(region: str) -> None:
    countries = {row["calling_code"]: row["country_iso"] for row in seed("country_zone")}
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.FIXED_LINE)
    assert example is not None
    digits = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164).lstrip("+")
    longest = max((code for code in countries if digits.startswith(code)), key=len)
    # Saint Barthélemy and Saint Martin cannot be told from Guadeloupe by a prefix.
    assert countries[longest] == {"BL": "GP", "MF": "GP"}.get(region, region)


def test_a_network_abroad_has_the_zone_of_its_country() -> None:
    zones = {row["calling_code"]: row["zone"] for row in seed("country_zone")}
    for row in seed("plmn"):
        if row["country_iso"] == "CN":
            assert (row["calling_code"], row["zone"]) == ("86", "")
        else:
            assert row["zone"] == zones[row["calling_code"]], row


def test_country_names_and_zones_are_there_in_both_languages() -> None:
    rows = seed("country_zone")
    assert len({row["country_iso"] for row in rows}) >= 200
    assert all(row["name_zh"] and row["name_en"] and row["zone"] in {"1", "2", "3"} for row in rows)


def test_a_mobile_number_has_one_operator() -> None:
    rows = {row["prefix"]: row["operator_code"] for row in seed("number_segment")}
    known = {
        "130": "CUCC",
        "186": "CUCC",
        "139": "CMCC",
        "188": "CMCC",
        "133": "CTCC",
        "189": "CTCC",
    }
    assert {prefix: rows[prefix] for prefix in known} == known
    # A three-digit range that is split by its fourth digit is not listed as a whole too.
    assert not {prefix[:3] for prefix in rows if len(prefix) == 4} & rows.keys()
