"""The list of sources."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ingestion.formats import FORMATS
from ingestion.sources import SOURCES_FILE, load_sources, register_sources
from tollhouse.postgres import connect
from tollhouse.settings import Settings


def test_every_source_names_a_format_and_a_province() -> None:
    sources = load_sources()

    assert set(sources) == {
        "MSC-11", "MSC-44", "MSC-51", "PGW-11", "PGW-44", "PGW-51", "DCH-00",
    }  # fmt: skip
    assert {source.format for source in sources.values()} == set(FORMATS)
    assert {source.province_code for source in sources.values()} == {"00", "11", "44", "51"}


def test_file_names_are_those_of_their_source_alone() -> None:
    sources = load_sources()

    assert sources["MSC-44"].names_its_files("MSC-44_20261005_000123.cdr")
    assert sources["PGW-44"].names_its_files("PGW-44_-_123.20261005_-_0130+0800")
    assert not sources["MSC-11"].names_its_files("MSC-44_20261005_000123.cdr")
    assert not sources["MSC-44"].names_its_files("MSC-44_20261005_000123.cdr.bak")


def test_an_unknown_format_is_refused_by_name(tmp_path: Path) -> None:
    text = SOURCES_FILE.read_text(encoding="utf-8").replace("format: roaming_cdr", "format: tap9")
    path = tmp_path / "sources.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ValidationError, match="tap9"):
        load_sources(path)


def test_a_source_listed_twice_is_refused_by_name(tmp_path: Path) -> None:
    text = SOURCES_FILE.read_text(encoding="utf-8").replace("id: MSC-51", "id: MSC-11")
    path = tmp_path / "sources.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ValidationError, match="MSC-11"):
        load_sources(path)


def test_registering_twice_leaves_one_row_a_source(settings: Settings) -> None:
    register_sources(settings)

    assert register_sources(settings) == 7
    with connect(settings) as connection:
        rows = connection.execute(
            "select source_id, name, late_after_hours from control.source"
        ).fetchall()
    assert len(rows) == 7
    assert ("DCH-00", "国际漫游数据清算所 Clearing house of international roaming", 24) in rows
