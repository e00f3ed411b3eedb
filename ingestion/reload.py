"""Loading a file again 重新入库: one taken back, or refused before its source was put right."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC
from zoneinfo import ZoneInfo

import psycopg
from psycopg.types.json import Jsonb

from ingestion import archive
from ingestion.archive import Incoming, Original
from ingestion.formats import FileFacts, UnreadableFileError
from ingestion.journal_lock import JournalWork, journal
from ingestion.judging import NamedFile, Verdict, judge
from ingestion.mediation_work import UNFOLLOWED
from ingestion.sources import Source, load_sources, raw_formats
from tollhouse.file_reasons import FileReason
from tollhouse.postgres import connect
from tollhouse.settings import Settings

WAIT_S = 600.0


class ReloadError(RuntimeError):
    """A file cannot be loaded again; the message says why and what to do."""


def reload(settings: Settings, file_id: str, who: str, reason: str, wait_s: float = WAIT_S) -> None:
    """Put a file that was rolled back or rejected into the state `collected`, from its original.

    A rejected one is judged anew, by the sources and formats of now. The next landing decodes the
    file, as one of a new batch. Killed anywhere, it is done or can be done again.

    Raises:
        ReloadError: it is neither, mediation has not followed the rollback yet, what it was refused
            for still stands, its content is in use under another id, or its original is gone.
        JournalBusyError: a collection or landing is still running after `wait_s` seconds.
        SourcesError: the list of sources cannot be used.
    """
    if not who.strip() or not reason.strip():
        raise ReloadError(f"loading {file_id} again needs somebody's name and a reason")
    note = FileReason("reloaded", {"who": who, "why": reason})
    with connect(settings) as connection:
        row = connection.execute(
            f"select status, sha256, size_bytes, source_id, {UNFOLLOWED}"  # noqa: S608 - a constant
            " from control.usage_file as file where file_id = %s for update",
            (file_id,),
        ).fetchone()
        if row is None:
            raise ReloadError(f"there is no file {file_id} in the journal")
        status, sha256, size, source_id, is_unfollowed = row
        if status not in ("rolled_back", "rejected"):
            raise ReloadError(
                f"{file_id} is {status}: only a file that was rolled back or rejected can be loaded"
                " again"
            )
        if status == "rolled_back":
            if is_unfollowed:
                raise ReloadError(
                    f"mediation still shows what {file_id} said before it was taken back: run"
                    " `tollhouse run mediate`, then load it again"
                )
            original = Original(archive.archive_path(settings, file_id), sha256, size)
            _reload_rolled_back(connection, file_id, source_id, original, note)
            return
    _reload_rejected(settings, file_id, note, wait_s)


def _reload_rolled_back(
    connection: psycopg.Connection,
    file_id: str,
    source_id: str,
    original: Original,
    note: FileReason,
) -> None:
    twin = connection.execute(
        "select file_id from control.usage_file where source_id = %s and sha256 = %s"
        " and status in ('collected', 'landed', 'mediated')",
        (source_id, original.sha256),
    ).fetchone()
    if twin:
        raise ReloadError(f"the content of {file_id} is in use as {twin[0]}: roll that back first")
    with _told_why_not(file_id, source_id):
        original.verify()
    connection.execute(
        "update control.usage_file set status = 'collected', status_reason_code = %s,"
        " status_reason_values = %s, batch_id = null, decoded_record_count = null,"
        " landed_at = null where file_id = %s",
        (note.code, Jsonb(note.document()), file_id),
    )


def _reload_rejected(settings: Settings, file_id: str, note: FileReason, wait_s: float) -> None:
    """Judge a refused file anew; if it is right now, archive its original and journal that.

    The quarantine keeps its copy until the journal is written: after a kill before that the file is
    still refused, after one behind it the next `maintain` deletes what is left over.
    """
    sources, formats = load_sources(settings), raw_formats(settings)
    with (
        # Nobody else takes in the same content meanwhile, or moves an original to the quarantine.
        journal(settings, JournalWork.collect, wait_s) as connection,
        journal(settings, JournalWork.land, wait_s),
    ):
        row = connection.execute(
            "select source_id, file_name, received_at, sha256, size_bytes from control.usage_file"
            " where file_id = %s and status = 'rejected' for update",
            (file_id,),
        ).fetchone()
        if row is None:
            raise ReloadError(f"{file_id} is not rejected any more: look at it again")
        source_id, name, received_at, sha256, size = row
        if source_id not in sources:
            raise ReloadError(f"{file_id} cannot be loaded again: no source is called {source_id}")
        file = NamedFile(sources[source_id], formats, name, received_at.astimezone(UTC))
        # A landing that refused it may have been killed before it moved the original.
        original = Original(archive.quarantine(settings, file_id), sha256, size)
        with _told_why_not(file_id, source_id), original.open() as stream:
            incoming = archive.take_in(settings, stream)
        try:
            verdict = _require_right(connection, file_id, file, incoming)
            incoming.place(archive.archive_path(settings, file_id))
            _journal_as_collected(connection, file_id, file.source, verdict, note)
            connection.commit()
        finally:
            incoming.discard()
        original.path.unlink(missing_ok=True)


def _require_right(
    connection: psycopg.Connection, file_id: str, file: NamedFile, incoming: Incoming
) -> Verdict:
    """What is found of a file that may be taken in; raises ReloadError with the reason if not."""
    source = file.source
    raw = incoming.as_raw_file(file.name, file.received_at, ZoneInfo(source.timezone))
    verdict = judge(connection, file, raw, incoming.sha256)
    if verdict.status == "collected":
        return verdict
    if verdict.status == "unfinished":
        raise ReloadError(
            f"{file_id} does not show that it is whole and changed less than"
            f" {source.settle_minutes} minutes ago: load it again later"
        )
    told = verdict.reason.en if verdict.reason else verdict.status
    raise ReloadError(f"{file_id} is still refused: {told}")


def _journal_as_collected(
    connection: psycopg.Connection, file_id: str, source: Source, verdict: Verdict, note: FileReason
) -> None:
    facts = verdict.facts or FileFacts()
    if facts.lacks:
        note = FileReason("reloaded_incomplete", {**note.values, "lacks": facts.lacks})
    connection.execute(
        "update control.usage_file set status = 'collected', status_reason_code = %s,"
        " status_reason_values = %s, format = %s, province_code = %s, sequence_number = %s,"
        " sequence_date = %s, created_at_source = %s,"
        " declared_record_count = %s, batch_id = null, decoded_record_count = null,"
        " landed_at = null where file_id = %s",
        (
            note.code,
            Jsonb(note.document()),
            verdict.raw_format.name if verdict.raw_format else None,
            source.province_code,
            verdict.number.sequence_number,
            verdict.number.sequence_date,
            facts.created_at,
            facts.declared_record_count,
            file_id,
        ),
    )


@contextlib.contextmanager
def _told_why_not(file_id: str, source_id: str) -> Iterator[None]:
    """Say of an original that cannot be read what that means for the file."""
    try:
        yield
    except archive.OriginalUnavailableError as error:
        raise ReloadError(f"{file_id} cannot be loaded again now: {error}") from None
    except UnreadableFileError as error:
        raise ReloadError(
            f"{file_id} cannot be loaded again: {error}; ask {source_id} to send it under a"
            " new name"
        ) from None
