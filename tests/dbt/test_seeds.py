"""The seeds that mediation reads are right."""

from __future__ import annotations

import csv
from itertools import pairwise

import phonenumbers
import pytest
from phonenumbers import geocoder

from tollhouse.settings import PROJECT_ROOT

MOBILE = [f"1{digit}" for digit in range(3, 10)]
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


# Where the library goes by a city of the area and not by the area itself.
CITY_OF_AREA = {
    "692": "芒市", "887": "香格里拉", "908": "克孜勒苏", "909": "博尔塔拉", "979": "海西",
    "992": "伊犁", "996": "巴音郭楞",
}  # fmt: skip


def test_an_area_code_is_of_the_city_and_province_that_the_number_plan_says() -> None:
    provinces = {row["province_code"]: row["name_zh"] for row in seed("province")}
    places = {}
    for row in seed("area_code"):
        national = f"{row['area_code']}88888888"[:10]
        number = phonenumbers.PhoneNumber(country_code=86, national_number=int(national))
        place = geocoder.description_for_number(number, "zh")
        if not place:
            continue  # the library knows the larger part of the country
        places[row["area_code"]] = place
        names = [*row["name_zh"].split("、"), CITY_OF_AREA.get(row["area_code"], "-")]
        assert any(name in place for name in names), (row, place)
        assert place.startswith(provinces[row["province_code"]]), (row, place)
    assert len(places) > 250


def test_no_area_code_begins_another_or_a_mobile_number() -> None:
    codes = sorted(row["area_code"] for row in seed("area_code"))
    assert len(set(codes)) == len(codes) > 300
    assert not [code for code in codes if any(code.startswith(mobile) for mobile in MOBILE)]
    assert not [(a, b) for a, b in pairwise(codes) if b.startswith(a)]
