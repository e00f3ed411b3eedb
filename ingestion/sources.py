"""The sources of usage files, as listed in ``sources.yaml``."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import psycopg
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from ingestion.formats import FORMATS
from tollhouse.postgres import connect
from tollhouse.settings import Settings

SOURCES_FILE = Path(__file__).parent / "sources.yaml"


class Source(BaseModel):
    """One network element or clearing house that delivers files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_id: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]+$")]
    name_zh: str
    name_en: str
    format: str
    province_code: Annotated[str, StringConstraints(pattern=r"^\d{2}$")]
    file_name: str
    sequence_rule: Literal["continuous", "none"]
    late_after_hours: Annotated[int, Field(gt=0)]
    settle_minutes: Annotated[int, Field(ge=0)] = 10

    @field_validator("format")
    @classmethod
    def _is_known_format(cls, value: str) -> str:
        if value not in FORMATS:
            raise ValueError(f"no raw format is called {value!r}; there are {', '.join(FORMATS)}")
        return value

    @field_validator("file_name")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        re.compile(value)
        return value

    @property
    def name(self) -> str:
        """The name for people, Chinese and English."""
        return f"{self.name_zh} {self.name_en}"

    def names_its_files(self, file_name: str) -> bool:
        """Whether a file of this source may be called so."""
        return re.fullmatch(self.file_name, file_name) is not None


class _SourceList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sources: list[Source]

    @field_validator("sources")
    @classmethod
    def _has_no_twins(cls, value: list[Source]) -> list[Source]:
        ids = [source.source_id for source in value]
        twins = {source_id for source_id in ids if ids.count(source_id) > 1}
        if twins:
            raise ValueError(f"sources listed twice: {', '.join(sorted(twins))}")
        return value


@lru_cache(maxsize=8)
def load_sources(path: Path = SOURCES_FILE) -> dict[str, Source]:
    """The sources by id, in the order of the file.

    Raises:
        pydantic.ValidationError: the file is not a list of sources; the message names the entry.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {source.source_id: source for source in _SourceList.model_validate(content).sources}


def register_sources(settings: Settings) -> int:
    """Make ``control.source`` say what ``sources.yaml`` says; returns the number of sources."""
    with connect(settings) as connection:
        return upsert_sources(connection)


def upsert_sources(connection: psycopg.Connection) -> int:
    """Write the sources into ``control.source`` within the caller's transaction."""
    sources = list(load_sources().values())
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into control.source"
            " (source_id, name, format, province_code, sequence_rule, late_after_hours)"
            " values (%s, %s, %s, %s, %s, %s)"
            " on conflict (source_id) do update set name = excluded.name,"
            " format = excluded.format, province_code = excluded.province_code,"
            " sequence_rule = excluded.sequence_rule,"
            " late_after_hours = excluded.late_after_hours",
            [
                (
                    source.source_id,
                    source.name,
                    source.format,
                    source.province_code,
                    source.sequence_rule,
                    source.late_after_hours,
                )
                for source in sources
            ],
        )
    return len(sources)
