"""Originals of collected files: compressed, one a file id, written whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import zlib
from pathlib import Path

from ingestion.formats import UnreadableFileError
from tollhouse.settings import Settings

COMPRESSION = 1  # a third of the size in a fifth of the time of the default level


def archive_path(settings: Settings, file_id: str) -> Path:
    """Where the original of a file stands."""
    return settings.archive_dir / f"{file_id}.gz"


def store(settings: Settings, file_id: str, content: bytes) -> None:
    """Keep the original of a file; storing it again replaces it by the same."""
    path = archive_path(settings, file_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as sink:
            # Neither name nor time goes in: the same content gives the same archive.
            with gzip.GzipFile("", "wb", COMPRESSION, sink, mtime=0) as packed:
                packed.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def fetch(settings: Settings, file_id: str, sha256: str) -> bytes:
    """The original of a file.

    Raises:
        UnreadableFileError: it is missing, damaged or not what was collected.
    """
    path = archive_path(settings, file_id)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFileError(f"the archived original {path} cannot be read: {error}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UnreadableFileError(f"the archived original {path} is not what was collected")
    return content
