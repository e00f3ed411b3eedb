"""Landing 入库: collected files are decoded into raw records, exactly once.

Files are landed in units: some small files, or one large one. A unit is decoded by one process,
which writes Parquet parts and gives them their names when they are whole; then, in this order, the
parts' rows are published (server profile) and the journal says which batch the files were landed
in. Until it does, a part is nothing: a killed landing leaves files that are still `collected`, and
parts that nobody reads and the next landing deletes.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import secrets
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

import psycopg
from psycopg.types.json import Jsonb

from ingestion import alarms, archive
from ingestion.formats.interface import raw_schema
from ingestion.journal_lock import JournalWork, journal
from ingestion.landing_unit import (
    CollectedFile,
    Unit,
    UnitOutcome,
    begin_decoding,
    decode_unit,
    discard_parts,
    files_in_hand,
)  # fmt: skip
from ingestion.mediation_work import NEEDS_RAW
from ingestion.sources import load_sources
from tollhouse.settings import Profile, Settings
from tollhouse.warehouse import Warehouse, open_warehouse
from tollhouse.warehouse.raw_parts import (
    Part,
    batch_folder,
    parts,
    prepare_raw,
    publish_parts,
    remove_parts,
    remove_unfinished,
)

WAIT_S = 600.0
UNIT_BYTES = 64_000_000  # of files as received that go into one unit; a larger file goes alone
LEAST_UNIT_BYTES = 4_000_000  # less is not worth a unit, even if another process has nothing to do
UNIT_FILES = 2_000
# Less is decoded here: it takes a second until other processes are ready.
IN_PROCESS_BYTES = 8_000_000

logger = logging.getLogger(__name__)


class LandingError(RuntimeError):
    """Files could not be landed and are still `collected`; the message names them and the cause."""


@dataclass
class LandResult:
    """What a landing did; `batch_id` is None when there was nothing to land.

    Of the `unavailable` files the disk did not give the original; the next landing tries again.

    `seconds` is the time spent by what it was spent on, over all processes; `peak_mb` is the most
    memory a process that decodes had.
    """

    batch_id: str | None = None
    files: int = 0
    records: int = 0
    decode_errors: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: int = 0


def create_raw_tables(warehouse: Warehouse, settings: Settings) -> None:
    """Make the raw table of usage records, empty, where it is absent."""
    prepare_raw(warehouse, settings, raw_schema())


def land(
    settings: Settings,
    on_progress: Callable[[int, int], None] | None = None,
    wait_s: float = WAIT_S,
) -> LandResult:
    """Decode every collected file into raw records, in as many processes as there are threads.

    May be killed anywhere and run again: a file counts once the journal says `landed`. A file that
    cannot be decoded is rejected with the reason, and its original quarantined; one whose original
    cannot be read at the moment stays collected, with an alarm. The others go on.

    Args:
        settings: says where, and how many processes.
        on_progress: called after each unit with the files done and the files in all.
        wait_s: how long to wait for another writer of the warehouse or another landing to end.

    Raises:
        WarehouseBusyError: another process writes the warehouse.
        JournalBusyError: another landing is still running.
        LandingError: a process died over a file; the message names it, all others are landed.
    """
    result = LandResult()
    with journal(settings, JournalWork.land, wait_s) as connection, contextlib.ExitStack() as stack:
        files = _collected_files(settings, connection)
        if _is_for_processes(settings, sum(file.size for file in files)):
            _decoders()
            forkserver.ensure_running()  # and it imports while we prepare
        # Parts are files of their own: the embedded warehouse stays free for others meanwhile.
        opened = open_warehouse(settings, "land usage files", wait_s)
        if settings.profile is Profile.embedded:
            with opened as warehouse:
                create_raw_tables(warehouse, settings)
                _clear_up(settings, warehouse, connection)
                warehouse_in_hand = None
        else:
            warehouse_in_hand = stack.enter_context(opened)
            create_raw_tables(warehouse_in_hand, settings)
            _clear_up(settings, warehouse_in_hand, connection)
        if files:
            landing = _Landing(settings, connection, warehouse_in_hand, result, len(files))
            landing.run(files, on_progress)
    return result


def _decoders() -> BaseContext:
    """Where processes that decode come from: copies of one that has imported what they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ingestion.landing_unit"])
    return context


def _is_for_processes(settings: Settings, octets: int) -> bool:
    """Whether files of so many octets are decoded in processes of their own."""
    # A daemon may have no children: where a scheduler runs us as one, we decode here.
    is_daemon = multiprocessing.current_process().daemon
    return settings.threads > 1 and octets > IN_PROCESS_BYTES and not is_daemon


def _collected_files(settings: Settings, connection: psycopg.Connection) -> list[CollectedFile]:
    sources = load_sources(settings)
    rows = connection.execute(
        "select file_id, source_id, file_name, format, sha256, size_bytes, received_at"
        " from control.usage_file where status = 'collected' order by received_at, file_id"
    )
    return [
        CollectedFile(
            file_id, file_name, format_name, sha256, size,
            received_at.astimezone(UTC),
            sources[source_id].timezone if source_id in sources else settings.timezone,
        )
        for file_id, source_id, file_name, format_name, sha256, size, received_at in rows
    ]  # fmt: skip


def _clear_up(settings: Settings, warehouse: Warehouse, connection: psycopg.Connection) -> None:
    """End the batches of killed landings and delete the parts whose files they did not land."""
    rows = connection.execute(
        "select batch_id from control.batch where purpose = 'land' and ended_at is null"
    ).fetchall()
    batches = [str(batch_id) for (batch_id,) in rows]
    for batch_id in batches:
        needed = _files_needed(connection, batch_id)
        dead = [each for each in parts(settings, [batch_id]) if needed.isdisjoint(each.file_ids())]
        remove_parts(warehouse, settings, dead)
        remove_unfinished(settings, batch_id)
    connection.execute(
        "update control.batch set ended_at = %s where batch_id = any(%s)",
        (datetime.now(UTC), batches),
    )
    connection.commit()


def _files_needed(connection: psycopg.Connection, batch_id: str) -> set[str]:
    """The files whose records in this batch count, or are to be taken back yet."""
    rows = connection.execute(
        f"select file_id from control.usage_file as file where batch_id = %s and {NEEDS_RAW}",  # noqa: S608
        (batch_id,),
    )
    return {str(file_id) for (file_id,) in rows}


class _Landing:
    """One batch: its units go out to processes, what comes back goes into the journal."""

    def __init__(
        self,
        settings: Settings,
        connection: psycopg.Connection,
        warehouse: Warehouse | None,
        result: LandResult,
        file_count: int,
    ) -> None:
        self._settings, self._connection, self._warehouse = settings, connection, warehouse
        self._result, self._file_count = result, file_count
        self._done = 0

    def run(
        self, files: Sequence[CollectedFile], on_progress: Callable[[int, int], None] | None
    ) -> None:
        """Land the files in a new batch."""
        started_at = datetime.now(UTC)
        batch_id = f"land-{started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._result.batch_id = batch_id
        self._connection.execute(
            "insert into control.batch (batch_id, purpose, started_at, file_count, record_count)"
            " values (%s, 'land', %s, 0, 0)",
            (batch_id, started_at),
        )
        self._connection.commit()
        batch_folder(self._settings, batch_id).mkdir(parents=True, exist_ok=True)
        units = list(_units(files, batch_id, self._settings.threads))
        deadly: list[str] = []
        for outcome in self._outcomes(units, deadly):
            self._take_over(batch_id, outcome)
            if on_progress:
                on_progress(self._done, self._file_count)
        remove_unfinished(self._settings, batch_id)
        if not self._result.files:
            self._remove_dead(batch_id)
        self._connection.execute(
            "update control.batch set ended_at = %s where batch_id = %s",
            (datetime.now(UTC), batch_id),
        )
        self._connection.commit()
        if deadly:
            raise LandingError(
                "the process that decodes died, as one does that runs out of memory, over"
                f" {', '.join(deadly)}; the other files are landed. Give the machine more memory,"
                " or set TOLLHOUSE_THREADS=1, and land again: it is still collected"
            )

    def _outcomes(
        self, units: Sequence[Unit], deadly: list[str]
    ) -> Generator[UnitOutcome, None, None]:
        """What becomes of each unit; files over which a process died alone go into `deadly`."""
        octets = sum(file.size for unit in units for file in unit.files)
        if len(units) == 1 or not _is_for_processes(self._settings, octets):
            for unit in units:
                yield decode_unit(self._settings, unit)
            return
        suspects: list[Unit] = []
        waiting = list(units)
        while waiting:
            waiting, broken = yield from self._in_pool(waiting, self._settings.threads)
            suspects += broken
        # One at a time, so that it is clear over which of the files the process dies.
        for unit in suspects:
            _, broken = yield from self._in_pool([unit], 1)
            deadly += [file.file_id for each in broken for file in each.files]

    def _in_pool(
        self, units: Sequence[Unit], processes: int
    ) -> Generator[UnitOutcome, None, tuple[list[Unit], list[Unit]]]:
        """Decode units in processes of our own.

        Returns:
            After the death of a process the units still to be decoded, and units of one file each
            that a process had in hand when it, or another one, died.

        Raises:
            LandingError: a process died before it had a file in hand.
        """
        context = _decoders()
        left = list(units)
        running: dict[Future[UnitOutcome], Unit] = {}
        try:
            with ProcessPoolExecutor(
                min(processes, len(units)), mp_context=context, initializer=begin_decoding
            ) as pool:
                while left or running:
                    while left and len(running) <= processes:
                        future = pool.submit(decode_unit, self._settings, left[0])
                        running[future] = left.pop(0)
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        outcome = future.result()
                        del running[future]
                        yield outcome
        except BrokenProcessPool:  # and every process of the pool has ended by now
            folder = batch_folder(self._settings, units[0].batch_id)
            in_hand = files_in_hand(folder)
            # Also a process that lived may have finished parts; what is decoded again, perhaps cut
            # into other units, must not be there twice.
            for unit in running.values():
                discard_parts(folder, unit.name)
            if not in_hand:
                raise LandingError(
                    "the processes that decode died as soon as they began; files that are not"
                    " landed are still collected: set TOLLHOUSE_THREADS=1 and land again"
                ) from None
            logger.warning("a process died while it decoded %s", ", ".join(sorted(in_hand)))
            return _parted([*running.values(), *left], in_hand)
        return [], []

    def _take_over(self, batch_id: str, outcome: UnitOutcome) -> None:
        """Publish the parts of a unit, then journal its files."""
        if self._warehouse is not None:
            publish_parts(self._warehouse, self._settings, batch_id, outcome.parts)
        landed_at = datetime.now(UTC)
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "update control.usage_file set status = 'landed', batch_id = %s,"
                " decoded_record_count = %s, landed_at = %s, revision = revision + 1,"
                " duplicate_window_days = source.duplicate_window_days,"
                " long_call_timeout_hours = source.long_call_timeout_hours"
                " from control.source where source.source_id = usage_file.source_id"
                " and file_id = %s and status = 'collected'",
                [
                    (batch_id, records, landed_at, file_id)
                    for file_id, records in outcome.landed.items()
                ],
            )
            cursor.executemany(
                "update control.usage_file set status = 'rejected', status_reason_code = %s,"
                " status_reason_values = %s where file_id = %s and status = 'collected'",
                [
                    (reason.code, Jsonb(reason.document()), file_id)
                    for file_id, reason in outcome.rejected.items()
                ],
            )
        alarms.raise_unavailable(self._connection, outcome.unavailable)
        records = sum(outcome.landed.values())
        self._connection.execute(
            "update control.batch set file_count = file_count + %s,"
            " record_count = record_count + %s where batch_id = %s",
            (len(outcome.landed), records, batch_id),
        )
        self._connection.commit()
        for file_id in outcome.rejected:
            archive.quarantine(self._settings, file_id)
        for file_id, reason in outcome.unavailable.items():
            logger.warning("%s is left for the next landing: %s", file_id, reason.en)
        self._done += len(outcome.landed) + len(outcome.rejected) + len(outcome.unavailable)
        self._result.files += len(outcome.landed)
        self._result.records += records
        self._result.decode_errors.update(outcome.decode_errors)
        self._result.rejected |= {each: reason.en for each, reason in outcome.rejected.items()}
        self._result.unavailable |= {each: told.en for each, told in outcome.unavailable.items()}
        self._result.peak_mb = max(self._result.peak_mb, outcome.peak_mb)
        for phase, seconds in outcome.seconds.items():
            self._result.seconds[phase] = self._result.seconds.get(phase, 0.0) + seconds

    def _remove_dead(self, batch_id: str) -> None:
        """Delete the parts of a batch that landed nothing."""
        dead: list[Part] = list(parts(self._settings, [batch_id]))
        if self._warehouse is not None:
            remove_parts(self._warehouse, self._settings, dead)
        for part in dead:
            part.path.unlink(missing_ok=True)


def _parted(units: Sequence[Unit], in_hand: set[str]) -> tuple[list[Unit], list[Unit]]:
    """The units without some of their files, and those files each in a unit of its own."""
    rest, alone = [], []
    for unit in units:
        others = tuple(file for file in unit.files if file.file_id not in in_hand)
        if others:
            rest.append(replace(unit, files=others))
        alone += [
            replace(unit, files=(file,), name=f"{unit.name}-{secrets.token_hex(4)}")
            for file in unit.files
            if file.file_id in in_hand
        ]
    return rest, alone


def _units(
    files: Sequence[CollectedFile], batch_id: str, processes: int
) -> Generator[Unit, None, None]:
    """Files in order of arrival, in ever smaller units: so all processes end at about one time."""
    left = sum(file.size for file in files)
    unit: list[CollectedFile] = []
    size = number = 0
    for file in files:
        limit = max(LEAST_UNIT_BYTES, min(UNIT_BYTES, left // (2 * processes)))
        if unit and (size + file.size > limit or len(unit) == UNIT_FILES):
            yield Unit(batch_id, f"{number:06d}", tuple(unit))
            unit, left, size, number = [], left - size, 0, number + 1
        unit.append(file)
        size += file.size
    if unit:
        yield Unit(batch_id, f"{number:06d}", tuple(unit))
