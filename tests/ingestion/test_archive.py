"""The archive: originals are kept unchanged, and what is not the original is never handed out."""

from __future__ import annotations

import hashlib
import io
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from ingestion import archive
from ingestion.archive import Original
from ingestion.formats.interface import HEAD_BYTES, UnreadableFileError
from tollhouse.settings import Settings

SIZES = (0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 2 * archive.CHUNK_BYTES + 77)
MOMENT = datetime(2026, 10, 6, tzinfo=UTC)


def content_of(size: int) -> bytes:
    """Octets that compress badly at first and well later."""
    return (random.Random(size).randbytes(size // 2) + b"record\n" * size)[:size]


def kept(settings: Settings, content: bytes) -> Original:
    """The content as an archived original."""
    incoming = archive.take_in(settings, io.BytesIO(content))
    path = archive.archive_path(settings, "MSC-44/file")
    incoming.place(path)
    return Original(path, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """No database is needed here."""
    return Settings(home=tmp_path_factory.mktemp("archive"))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_read_is_what_was_taken_in_with_its_beginning_and_end(
    settings: Settings, size: int
) -> None:
    content = content_of(size)
    original = kept(settings, content)
    file = original.as_raw_file("file", MOMENT, ZoneInfo("Asia/Shanghai"))

    assert (file.head, file.tail) == (content[:HEAD_BYTES], content[-HEAD_BYTES:])
    with file.open_stream() as stream:
        assert stream.read() == content
    assert original.is_verified


def test_any_zstd_program_unpacks_an_original(settings: Settings) -> None:
    content = content_of(3 * HEAD_BYTES)

    assert pa.input_stream(str(kept(settings, content).path), compression="zstd").read() == content


def test_a_stream_of_another_content_ends_with_an_error_and_the_sums(settings: Settings) -> None:
    original = kept(settings, b"what was collected")
    other = Original(original.path, hashlib.sha256(b"something else").hexdigest(), 18)

    with pytest.raises(UnreadableFileError, match="is not what was collected") as refusal:
        other.verify()
    assert str(original.path) in str(refusal.value)
    assert other.sha256 in str(refusal.value)
    assert not other.is_verified


@pytest.mark.parametrize("kept_octets", [0, 10, -1])
def test_a_cut_original_is_never_read_to_its_end(settings: Settings, kept_octets: int) -> None:
    original = kept(settings, content_of(3 * HEAD_BYTES))
    original.path.write_bytes(original.path.read_bytes()[:kept_octets])

    with pytest.raises(UnreadableFileError, match=r"cannot be read|not what was collected"):
        original.as_raw_file("file", MOMENT, ZoneInfo("UTC"))
        original.verify()


def test_a_stream_that_breaks_off_leaves_nothing_behind(settings: Settings) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100:
                raise ConnectionResetError("gone")
            return super().read(200)

    with pytest.raises(ConnectionResetError):
        archive.take_in(settings, Broken(b"x" * 1000))
    assert list((settings.archive_dir / archive.INCOMING).iterdir()) == []
