"""Originals of files: compressed, one a file id, written whole or not at all, read as streams.

An archived original is a zstd file that any zstd program unpacks: a frame a chunk, which takes less
processor time than one long frame. Its last `HEAD_BYTES` octets are a frame of their own, and a
skippable frame behind them (RFC 8878, 3.1.2) says how long that one is: so the end of a large file,
where trailers are, is read without unpacking the rest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from ingestion.formats.interface import HEAD_BYTES, RawFile, UnreadableFileError
from tollhouse.file_reasons import FileReason
from tollhouse.settings import Settings

SUFFIX = ".zst"
CHUNK_BYTES = 1 << 20
INCOMING = ".incoming"  # folder of the archive where originals are written before they are placed

_TAIL_NOTE = struct.Struct("<IIQ")  # magic number, length of the content, octets of the tail frame
_SKIPPABLE_MAGIC = 0x184D2A50


def archive_path(settings: Settings, file_id: str) -> Path:
    """Where the original of a file stands."""
    return settings.archive_dir / f"{file_id}{SUFFIX}"


def quarantine_path(settings: Settings, file_id: str) -> Path:
    """Where the original of a rejected file stands."""
    return settings.quarantine_dir / f"{file_id}{SUFFIX}"


class OriginalUnavailableError(OSError):
    """The disk does not give an original: that says nothing about the file; try again later."""

    @property
    def reason(self) -> FileReason:
        """The same in both languages."""
        detail = os.strerror(self.errno or errno.EIO)
        return FileReason("original_unavailable", {"path": str(self.filename), "detail": detail})


@dataclass(frozen=True)
class Incoming:
    """An original that is written to the archive's disk and has no place yet."""

    path: Path
    size: int
    sha256: str
    head: bytes
    tail: bytes

    def as_raw_file(self, name: str, received_at: datetime, zone: tzinfo) -> RawFile:
        """The file as the formats read it."""
        return RawFile(
            name, self.size, self.head, self.tail, received_at,
            lambda: _open(self.path, self.sha256, self.size), zone,
        )  # fmt: skip

    def place(self, path: Path) -> None:
        """Move it to where it belongs; what stands there is replaced."""
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(path.parent.parent)
        self.path.replace(path)
        _sync_folder(path.parent)

    def discard(self) -> None:
        """Delete it, unless it was placed."""
        self.path.unlink(missing_ok=True)


def clear_incoming(settings: Settings) -> None:
    """Delete what killed collections were writing; only for the one that collects now."""
    folder = settings.archive_dir / INCOMING
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()


def take_in(settings: Settings, source: BinaryIO) -> Incoming:
    """Read a stream to its end once: hash it and write it, compressed, to the archive's disk.

    Memory is bounded by the chunk, whatever the length. The caller places or discards the result.

    Raises:
        OSError: the stream cannot be read, or the disk not written; nothing is left.
    """
    folder = settings.archive_dir / INCOMING
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{os.urandom(8).hex()}"
    digest = hashlib.sha256()
    codec = pa.Codec("zstd")
    size, head, tail = 0, b"", b""
    try:
        with path.open("wb") as sink:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if len(head) < HEAD_BYTES:
                    head += chunk[: HEAD_BYTES - len(head)]
                held = tail + chunk
                if len(held) > HEAD_BYTES:
                    sink.write(codec.compress(memoryview(held)[:-HEAD_BYTES]))
                tail = held[-HEAD_BYTES:]
            end = codec.compress(tail, asbytes=True)
            sink.write(end + _TAIL_NOTE.pack(_SKIPPABLE_MAGIC, 8, len(end)))
            sink.flush()
            os.fsync(sink.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Incoming(path, size, digest.hexdigest(), head, tail)


class _Original(io.RawIOBase):
    """The content of an archived original; reading to its end makes sure that it is that."""

    def __init__(
        self, path: Path, sha256: str, size: int, on_verified: Callable[[], None] | None
    ) -> None:
        super().__init__()
        self._on_verified = on_verified
        self._path, self._sha256, self._size = path, sha256, size
        self._digest = hashlib.sha256()
        self._position = 0
        self._stream = pa.input_stream(str(path), compression="zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type] # typeshed: a buffer
        try:
            count = int(self._stream.readinto(view))
        except OSError as error:
            raise _failure(self._path, error) from None
        self._digest.update(view[:count])
        self._position += count
        if count == 0 and len(view):
            self._verify()
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _verify(self) -> None:
        if self._position != self._size or self._digest.hexdigest() != self._sha256:
            raise UnreadableFileError(
                "original_differs",
                path=str(self._path), octets=str(self._position), size=str(self._size),
                digest=self._digest.hexdigest(), sha256=self._sha256,
            )  # fmt: skip
        if self._on_verified is not None:
            self._on_verified()


def _open(
    path: Path, sha256: str, size: int, on_verified: Callable[[], None] | None = None
) -> BinaryIO:
    try:
        return io.BufferedReader(_Original(path, sha256, size, on_verified), CHUNK_BYTES)
    except OSError as error:
        raise _failure(path, error) from None


def _failure(path: Path, error: OSError) -> UnreadableFileError | OriginalUnavailableError:
    """Whether the content is at fault (what does not unpack has no errno), or the machine.

    An original that is not there is gone, unless its folder is not there either: then the disk is
    not mounted.
    """
    is_gone = error.errno == errno.ENOENT and path.parent.is_dir()
    if error.errno and not is_gone:
        return OriginalUnavailableError(
            error.errno, f"the archived original cannot be read now: {error.strerror}", str(path)
        )
    return UnreadableFileError("original_unreadable", path=str(path), detail=str(error))


@dataclass
class Original:
    """An archived original: where it stands and what was taken in.

    `is_verified` once a stream of it was read to the end and found to be that.
    """

    path: Path
    sha256: str
    size: int
    is_verified: bool = False

    def as_raw_file(self, name: str, received_at: datetime, zone: tzinfo) -> RawFile:
        """The file as the formats read it; whoever reads a stream to its end has it verified.

        Raises:
            UnreadableFileError: it is missing or damaged.
            OriginalUnavailableError: the disk does not give it now.
        """
        with self.open() as stream:
            head = stream.read(HEAD_BYTES)
        tail = head if self.size <= HEAD_BYTES else self._tail()
        return RawFile(name, self.size, head, tail, received_at, self.open, zone)

    def open(self) -> BinaryIO:
        """A stream of the content.

        Its reading raises `UnreadableFileError` if the archived file is damaged or, at the end, if
        the content is not that which was collected; `OriginalUnavailableError` if the disk fails.
        """
        return _open(self.path, self.sha256, self.size, self._note_verified)

    def _note_verified(self) -> None:
        self.is_verified = True

    def verify(self) -> None:
        """Read it to its end.

        Raises:
            UnreadableFileError: it is missing, damaged or not what was collected.
            OriginalUnavailableError: the disk does not give it now.
        """
        with self.open() as stream:
            while stream.read(CHUNK_BYTES):
                pass

    def _tail(self) -> bytes:
        try:
            with self.path.open("rb") as stream:
                stream.seek(-_TAIL_NOTE.size, os.SEEK_END)
                magic, length, octets = _TAIL_NOTE.unpack(stream.read(_TAIL_NOTE.size))
                if (magic, length) != (_SKIPPABLE_MAGIC, 8):
                    raise OSError("it does not end with the note on its last frame")
                stream.seek(-_TAIL_NOTE.size - octets, os.SEEK_END)
                frame = stream.read(octets)
            return bytes(pa.Codec("zstd").decompress(frame, HEAD_BYTES, asbytes=True))
        except OSError as error:
            raise _failure(self.path, error) from None


def quarantine(settings: Settings, file_id: str) -> Path:
    """Move the original of a file that was collected and then rejected; returns where it is.

    Moving it again changes nothing.
    """
    target = quarantine_path(settings, file_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        archive_path(settings, file_id).replace(target)
    return target


def _sync_folder(folder: Path) -> None:
    """Make sure that a rename in a folder outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
