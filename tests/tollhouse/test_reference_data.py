"""Reference data in which a key stands twice is refused before anything goes by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tollhouse import pipeline
from tollhouse.settings import Settings
from tollhouse.warehouse import ReferenceDataError, check_reference_data, reference


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference.SEEDS, tmp_path / "seeds"))


def append(seeds: Path, name: str, *rows: str) -> int:
    """Add rows to a seed; the line of the first."""
    file = seeds / "ods" / f"{name}.csv"
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return text.count("\n") + 1


def test_the_reference_data_we_ship_is_taken(seeds: Path) -> None:
    check_reference_data()
    check_reference_data(seeds)


def test_every_prefix_that_is_listed_twice_is_named_with_both_its_rows(seeds: Path) -> None:
    zone = append(seeds, "country_zone", "1204,XX,重复,Twice,3")
    new = append(seeds, "number_prefix", "99901,carrier,甲,A", "99902,carrier,乙,B")
    append(seeds, "number_prefix", "99901,carrier,丙,C")
    rate = append(seeds, "tax_rate", "basic,2014-06-01,17,net")
    with pytest.raises(ReferenceDataError) as refused:
        check_reference_data(seeds)
    assert [problem.partition(": keep one")[0] for problem in str(refused.value).splitlines()] == [
        f"country_zone.csv:{zone}: calling_code 1204 stands in line 3 already",
        f"number_prefix.csv:{new + 2}: prefix 99901 stands in line {new} already",
        f"tax_rate.csv:{rate}: tax_class basic, valid_from 2014-06-01 stands in line 3 already",
    ]


def test_a_prefix_that_no_number_could_have_is_named(seeds: Path) -> None:
    first = append(seeds, "number_prefix", "99,porting,甲,A", "9990012345,porting,乙,B")
    append(seeds, "number_prefix", "+9902,porting,丙,C", "9903,other,丁,D")
    with pytest.raises(ReferenceDataError) as refused:
        check_reference_data(seeds)
    problems = str(refused.value).splitlines()
    assert [problem.partition(" is not like")[0] for problem in problems] == [
        f"number_prefix.csv:{first}: prefix '99'",
        f"number_prefix.csv:{first + 1}: prefix '9990012345'",
        f"number_prefix.csv:{first + 2}: prefix '+9902'",
        f"number_prefix.csv:{first + 3}: kind 'other'",
    ]


def test_nothing_is_prepared_with_it(
    seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(seeds, "country_zone", "1204,XX,重复,Twice,3")
    home = tmp_path / "home"
    monkeypatch.setattr(check_reference_data, "__defaults__", (seeds,))
    with pytest.raises(ReferenceDataError, match="1204"):
        pipeline.run_step("prepare", Settings(home=home))
    assert not (home / "postgres").exists()
