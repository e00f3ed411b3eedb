"""Judging a file 文件检查: whether it is what its source delivers, and was not taken in before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from ingestion.formats import FileFacts, RawFile, RawFormat, UnreadableFileError
from ingestion.sources import NO_NUMBER, FileNumber, NumberingError, Source, recognise
from ingestion.transport import UnreachableError
from tollhouse.file_reasons import FileReason

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedFile:
    """One file of a source, by its name."""

    source: Source
    raw_formats: Mapping[str, RawFormat]
    name: str  # as the journal has it: a name that is not UTF-8 with its octets as \\xff
    received_at: datetime  # when it was put where it is delivered

    @property
    def base_id(self) -> str:
        """The file id it has unless that is taken."""
        return f"{self.source.source_id}/{self.name}"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a file: `unfinished`, or the status that the journal gives it."""

    status: str
    reason: FileReason | None = None
    original_id: str | None = None
    raw_format: RawFormat | None = None
    facts: FileFacts | None = None
    number: FileNumber = NO_NUMBER


# Asked for each file that comes: two looks into an index, since of `or` none is used.
_EARLIER_FILE = """
select file_id, is_same_content
from (
    select file_id, received_at, true as is_same_content
    from control.usage_file
    where source_id = %(source)s and sha256 = %(sha256)s
        and status in ('collected', 'landed', 'mediated')
    union all
    select file_id, received_at, false
    from control.usage_file
    where source_id = %(source)s and file_name = %(name)s
        and status in ('collected', 'landed', 'mediated')
) as earlier
order by is_same_content desc, received_at, file_id
limit 1
"""


def judge(connection: psycopg.Connection, file: NamedFile, raw: RawFile, sha256: str) -> Verdict:
    """What becomes of a file whose journal row is not among those in use; changes nothing.

    Raises:
        OSError: its content cannot be read now.
    """
    source, name = file.source, file.name
    raw_format = recognise(raw.head, file.raw_formats, source.format)
    facts: FileFacts | None = None
    fault: FileReason | None = None
    if raw_format is None:
        fault = _unknown(raw.head, source)
    else:
        try:
            facts = raw_format.read_facts(raw)
        except UnreadableFileError as error:
            fault = error.reason
        except OSError:
            raise  # the disk's fault, not the file's: the next collection tries it again
        except Exception as error:  # a fault of ours met by one file must not stop the others
            logger.exception("reading what %s says of itself failed", file.base_id)
            fault = FileReason(
                "header_unreadable", {"format": raw_format.name, "detail": printable(error)}
            )
    if _may_grow(raw, facts, fault) and _is_young(file):
        return Verdict("unfinished")
    original = connection.execute(
        _EARLIER_FILE,
        {"source": source.source_id, "sha256": sha256, "name": name},
    ).fetchone()
    if original and original[1]:
        told = FileReason("same_content", {"file_id": original[0]})
        return Verdict("duplicate", told, original[0], raw_format)
    if original:
        fault = FileReason(
            "name_used",
            {"name": name, "file_id": original[0], "source_id": source.source_id},
        )
    number = NO_NUMBER
    if fault is None and facts is not None and raw_format is not None:
        fault, number = _misdelivery(file, raw_format, facts)
    if fault:
        said = FileNumber(facts.sequence_number if facts else None, None)
        return Verdict("rejected", fault, raw_format=raw_format, facts=facts, number=said)
    note = None
    if facts is not None and facts.lacks:
        note = FileReason("incomplete", {"lacks": facts.lacks, "source_id": source.source_id})
    return Verdict("collected", note, raw_format=raw_format, facts=facts, number=number)


def _may_grow(raw: RawFile, facts: FileFacts | None, fault: FileReason | None) -> bool:
    """Whether nothing in the file shows that it is whole.

    A trailer does, or a header that counts the records: such a file need not settle.
    """
    if raw.size == 0:
        return True
    if facts is None:
        return fault is None
    return facts.lacks is not None or facts.declared_record_count is None


def _misdelivery(
    file: NamedFile, raw_format: RawFormat, facts: FileFacts
) -> tuple[FileReason | None, FileNumber]:
    """Why a readable file is not one that its folder is for; else None, and its number."""
    source = file.source
    is_from_another = facts.source_id is not None and facts.source_id != source.name_in_files
    if raw_format.name != source.format or is_from_another:
        due = _due(source) | {"found": raw_format.name}
        if facts.source_id is None:
            return FileReason("misdelivered_unnamed", due), NO_NUMBER
        return FileReason("misdelivered", due | {"delivered": facts.source_id}), NO_NUMBER
    if not source.names_its_files(file.name):
        told = {"source_id": source.source_id, "pattern": source.file_name}
        return FileReason("misnamed", told), NO_NUMBER
    try:
        return None, source.number_of(file.name, facts.sequence_number)
    except NumberingError as error:
        return error.reason, NO_NUMBER


def _is_young(file: NamedFile) -> bool:
    """Whether the file changed so lately that it may still grow.

    A marker beside it says that it does not. A time far ahead of ours comes from a wrong clock and
    says nothing: that file is not waited for.
    """
    if file.source.done_marker is not None:
        return False
    age = abs(datetime.now(UTC) - file.received_at)
    return age < timedelta(minutes=file.source.settle_minutes)


def _due(source: Source) -> dict[str, str]:
    """What the folder of a source is for."""
    return {"format": source.format, "sender": source.name_in_files}


def _unknown(head: bytes, source: Source) -> FileReason:
    if not head:
        return FileReason("empty_file", _due(source))
    return FileReason("unknown_format", _due(source) | {"head": repr(head[:16])})


def printable(error: Exception) -> str:
    """What an error says, as text that every database holds."""
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    named = text if isinstance(error, UnreachableError) else f"{type(error).__name__}: {text}"
    return named.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:1000]
