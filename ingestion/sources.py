"""The sources of usage files: the shipped ``sources.yaml`` and one of the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)
from pydantic import field_validator as _checks

from ingestion.formats import FORMATS, RawFormat
from ingestion.formats.text import load_layouts
from ingestion.transport import CREDENTIALS, check_url
from tollhouse.file_reasons import FileReason
from tollhouse.postgres import connect
from tollhouse.settings import Settings, process_user
from tollhouse.warehouse.reference import province_codes

SOURCES_FILE = Path(__file__).parent / "sources.yaml"
LONGEST_WINDOW_DAYS = 3660
LARGEST_NUMBER = 2**31 - 1  # of a file, as the journal keeps it
# Groups of a pattern of file names that mean something.
NAME_GROUPS = ("sequence", "date")


class SourcesError(ValueError):
    """The lists of sources or formats cannot be used; the message names the file and the entry."""


@dataclass(frozen=True)
class FileNumber:
    """A file's number in the sequence of its source, and the day it is one of."""

    sequence_number: int | None
    sequence_date: date | None


NO_NUMBER = FileNumber(None, None)


class NumberingError(ValueError):
    """A file has not the number that its source's files have; `reason` says which it has."""

    def __init__(self, reason: FileReason) -> None:
        super().__init__(reason.en)
        self.reason = reason


class Source(BaseModel):
    """One network element, clearing house or partner that delivers files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_id: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]+$")]
    name_zh: str
    name_en: str
    format: str
    province_code: Annotated[str, StringConstraints(pattern=r"^\d{2}$")]
    file_name: str
    sequence_rule: Literal["continuous", "none"]
    late_after_hours: Annotated[int, Field(gt=0)]
    sender: str | None = None
    settle_minutes: Annotated[int, Field(ge=0)] = 10
    location: str | None = None
    credentials: Mapping[str, str] = Field(default_factory=dict)
    done_marker: Annotated[str, StringConstraints(pattern=r"^\.[A-Za-z0-9_.-]+$")] | None = None
    expected_every_minutes: Annotated[int, Field(gt=0)] | None = None
    timezone: str = "Asia/Shanghai"
    country_code: Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,2}$")] = "86"
    area_code: Annotated[str, StringConstraints(pattern=r"^\d{1,5}$")] | None = None
    split_at_midnight: bool = False
    archive_days: Annotated[int, Field(gt=0)] | None = None
    duplicate_window_days: Annotated[int, Field(gt=0, le=LONGEST_WINDOW_DAYS)] = 90
    long_call_timeout_hours: Annotated[int, Field(gt=0, le=24 * LONGEST_WINDOW_DAYS)] = 48
    sequence_first: Annotated[int, Field(ge=0, lt=LARGEST_NUMBER)] | None = None
    sequence_last: Annotated[int | None, Field(gt=0, le=LARGEST_NUMBER, validate_default=True)] = (
        None
    )
    sequence_restarts: Literal["never", "daily"] = "never"
    after_collection: Literal["keep", "delete", "move"] = "keep"

    @_checks("file_name")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if unknown := sorted(groups.keys() - set(NAME_GROUPS)):
            raise ValueError(
                f"the group {unknown[0]!r} means nothing: there are {' and '.join(NAME_GROUPS)}"
            )
        return value

    @_checks("sequence_last")
    @classmethod
    def _ends_the_sequence(cls, value: int | None, info: ValidationInfo) -> int | None:
        first = info.data.get("sequence_first")
        if (value is None) != (first is None):
            raise ValueError("numbers that begin anew have both sequence_first and sequence_last")
        if value is not None and first is not None and value <= first:
            raise ValueError(f"{value} is not above sequence_first, {first}")
        return value

    @_checks("sequence_restarts")
    @classmethod
    def _knows_its_day(cls, value: str, info: ValidationInfo) -> str:
        pattern = info.data.get("file_name")
        if value == "daily" and pattern and "date" not in re.compile(pattern).groupindex:
            raise ValueError(
                "numbers that begin anew every day need the day: give file_name a group"
                r" (?P<date>\d{8})"
            )
        return value

    @_checks("province_code")
    @classmethod
    def _is_province(cls, value: str) -> str:
        if value not in (known := province_codes()):
            raise ValueError(
                f"the province reference data has no code {value!r}: give one of"
                f" {', '.join(sorted(known))}"
            )
        return value

    @_checks("location")
    @classmethod
    def _is_location(cls, value: str | None) -> str | None:
        if value is not None:
            check_url(value)
        return value

    @_checks("credentials")
    @classmethod
    def _are_variables(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, variable in value.items():
            if name not in CREDENTIALS:
                raise ValueError(f"{name!r} is none of {', '.join(CREDENTIALS)}")
            if not re.fullmatch(r"(?!TOLLHOUSE_)[A-Z][A-Z0-9_]*", variable):
                raise ValueError(
                    f"{name}: not the name of an environment variable (capitals, digits and '_',"
                    " not beginning with TOLLHOUSE_); the value itself does not belong here"
                )
        return value

    @_checks("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"no time zone is called {value!r}") from None
        return value

    @property
    def name(self) -> str:
        """The name for people, Chinese and English."""
        return f"{self.name_zh} {self.name_en}"

    @property
    def name_in_files(self) -> str:
        """What its files say they are from, where they say it."""
        return self.sender or self.source_id

    def names_its_files(self, file_name: str) -> bool:
        """Whether a file of this source may be called so."""
        return re.fullmatch(self.file_name, file_name) is not None

    @property
    def numbers_by_name(self) -> bool:
        """Whether the number of a file stands in its name."""
        return "sequence" in re.compile(self.file_name).groupindex

    def number_of(self, file_name: str, in_header: int | None) -> FileNumber:
        """The number of a file that is called so, and has a number in its header or none.

        Raises:
            NumberingError: the name has not the number or the day that the pattern promises, or the
                number is not one of those that `sequence_first` and `sequence_last` leave.
        """
        found = re.fullmatch(self.file_name, file_name)
        parts = found.groupdict() if found else {}
        number, day = in_header, None
        if "sequence" in parts:
            text = parts["sequence"] or ""
            if not re.fullmatch(r"[0-9]+", text) or int(text) > LARGEST_NUMBER:
                raise self._misnumbered("no_number", text=text)
            number = int(text)
        if self.sequence_restarts == "daily":
            text = parts.get("date") or ""
            try:
                if not re.fullmatch(r"[0-9]{8}", text):
                    raise ValueError
                day = datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a day, no moment
            except ValueError:
                raise self._misnumbered("no_day", text=text) from None
        first, last = self.sequence_first, self.sequence_last
        if first is not None and last is not None and number not in range(first, last + 1):
            raise self._misnumbered(
                "number_out_of_range", number=str(number), first=str(first), last=str(last)
            )
        return FileNumber(number, day)

    def _misnumbered(self, code: str, **values: str) -> NumberingError:
        return NumberingError(FileReason(code, {"source_id": self.source_id, **values}))

    def is_at(self, settings: Settings) -> str:
        """The URL or folder its files are fetched from."""
        return self.location or str((settings.landing_dir / self.source_id).absolute())


class _SourceList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sources: list[Source]


def raw_formats(settings: Settings) -> Mapping[str, RawFormat]:
    """Every raw format by name: the shipped ones, and the user's own layouts.

    Raises:
        SourcesError: a layout of the user's cannot be used, or has the name of another.
    """
    if settings.sources_dir is None or not (settings.sources_dir / "formats").is_dir():
        return FORMATS
    folder = settings.sources_dir / "formats"
    changed = tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.yaml")))
    return _with_layouts(folder, changed)


@lru_cache(maxsize=4)
def _with_layouts(folder: Path, _changed: tuple[tuple[str, int], ...]) -> Mapping[str, RawFormat]:
    formats = dict(FORMATS)
    for layout in load_layouts(folder):
        if layout.name in formats:
            raise SourcesError(
                f"{folder}: a format called {layout.name} is there already; give yours another name"
            )
        formats[layout.name] = layout
    return formats


def recognise(head: bytes, formats: Mapping[str, RawFormat], due: str) -> RawFormat | None:
    """The format whose signature a file's first octets carry, None if no format claims them.

    The format that is due there is asked first.
    """
    for raw_format in (formats[due], *formats.values()):
        if raw_format.recognises(head):
            return raw_format
    return None


def load_sources(settings: Settings) -> dict[str, Source]:
    """The sources by id: the shipped ones, then the user's own.

    Raises:
        SourcesError: a file is not a list of sources, or an id or format is wrong.
    """
    files = [SOURCES_FILE]
    if settings.sources_dir is not None:
        own = settings.sources_dir / "sources.yaml"
        if not own.is_file():
            raise SourcesError(f"TOLLHOUSE_SOURCES_DIR: there is no {own}")
        files.append(own)
    formats = raw_formats(settings)
    sources: dict[str, Source] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for source in _read(file):
            if source.source_id in sources:
                raise SourcesError(
                    f"{file}: the source {source.source_id} is listed twice"
                    f" (before in {origin[source.source_id]}); give one of them another id"
                )
            if source.format not in formats:
                raise SourcesError(
                    f"{file}: source {source.source_id}: no raw format is called"
                    f" {source.format!r}; there are {', '.join(formats)}"
                )
            if not source.numbers_by_name and not formats[source.format].numbers_files:
                _check_unnumbered(file, source)
            sources[source.source_id] = source
            origin[source.source_id] = file
    return sources


def _check_unnumbered(file: Path, source: Source) -> None:
    """Refuse what only numbered files can have, for a source whose files say no number."""
    if source.sequence_rule == "continuous":
        field, harm = "sequence_rule", "no gap would ever be found"
        otherwise = "sequence_rule 'none'"
    elif source.sequence_first is not None:
        field, harm = "sequence_first", "every file would be refused"
        otherwise = "leave out sequence_first and sequence_last"
    elif source.sequence_restarts != "never":
        field, harm, otherwise = "sequence_restarts", "none begins anew", "leave it out"
    else:
        return
    raise SourcesError(
        f"{file}: source {source.source_id}, {field}: files of format {source.format} have no"
        rf" sequence number, so that {harm}: give file_name a group (?P<sequence>\d+), or"
        f" {otherwise}"
    )


def _read(file: Path) -> list[Source]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return _SourceList.model_validate(content).sources
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SourcesError(f"{file} cannot be read: {error}") from None
    except ValidationError as error:
        raise SourcesError(f"{file}: {_faults(error, content)}") from None


def _faults(error: ValidationError, content: object) -> str:
    """The faults of a list, each with the id of its entry, without repeating values."""
    entries = content.get("sources") if isinstance(content, dict) else None
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        place = list(fault["loc"])
        if len(place) > 1 and isinstance(place[1], int) and isinstance(entries, list):
            entry = entries[place[1]]
            named = entry.get("source_id") if isinstance(entry, dict) else None
            place[:2] = [f"source {named or f'number {place[1] + 1}'}"]
        lines.append(f"{', '.join(str(part) for part in place)}: {fault['msg']}")
    return "; ".join(lines)


def register_sources(settings: Settings) -> int:
    """Make ``control.source`` say what the lists say; returns the number of sources."""
    with connect(settings) as connection:
        return upsert_sources(connection, load_sources(settings))


_COLUMNS = (
    "source_id", "name_zh", "name_en", "format", "province_code", "sequence_rule",
    "late_after_hours", "location", "timezone", "country_code", "area_code",
    "expected_every_minutes", "split_at_midnight", "file_name", "sender", "settle_minutes",
    "done_marker", "archive_days", "duplicate_window_days", "long_call_timeout_hours",
    "sequence_first", "sequence_last", "sequence_restarts",
    "after_collection",
)  # fmt: skip


def upsert_sources(connection: psycopg.Connection, sources: Mapping[str, Source]) -> int:
    """Write the sources into ``control.source`` within the caller's transaction.

    Rows that say so already are left alone: every write is a new version of the source, of which
    the audit log says who runs this and what changed.
    """
    names = ", ".join(_COLUMNS)
    marks = ", ".join(["%s"] * len(_COLUMNS))
    changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
    former = ", ".join(f"source.{name}" for name in _COLUMNS[1:])
    new = ", ".join(f"excluded.{name}" for name in _COLUMNS[1:])
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into control.source ({names}) values ({marks})"  # noqa: S608 - constants
            f" on conflict (source_id) do update set {changes}"
            f" where ({former}) is distinct from ({new}) returning source_id",
            [[getattr(source, name) for name in _COLUMNS] for source in sources.values()],
            returning=True,
        )
        changed = [row[0] for row in _returned(cursor)]
        cursor.execute(_AUDIT, {"username": process_user() or "system", "changed": changed})
    return len(sources)


def _returned(cursor: psycopg.Cursor) -> Iterator[tuple[Any, ...]]:
    """The rows that all statements of an `executemany` return."""
    for result in cursor.results():
        yield from result


_AUDIT = """
    insert into identity.audit_log
        (username, action, entity_type, entity_id, province_code, detail)
    select %(username)s, 'change_source', 'source', latest.source_id, source.province_code,
        jsonb_build_object('version', latest.version, 'changes', (
            select jsonb_object_agg(
                key, coalesce(former.content ->> key, '–') || ' → ' || coalesce(value, '–')
            )
            from jsonb_each_text(latest.content) as field (key, value)
            where latest.version > 1 and former.content ->> key is distinct from value
        ))
    from control.source
    join control.source_version as latest on latest.source_id = source.source_id
        and latest.version = (
            select max(version) from control.source_version as ver
            where ver.source_id = source.source_id
        )
    left join control.source_version as former
        on former.source_id = latest.source_id and former.version = latest.version - 1
    where source.source_id = any(%(changed)s)
"""
