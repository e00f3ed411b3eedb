"""Try a layout on a sample file before any source uses it; nothing is stored.

``python -m ingestion.formats.try_layout LAYOUT FILE [--zone Asia/Shanghai]`` writes what the file
says of itself, the first records and every fault as lines of JSON. It ends with 0 if every record
could be read, with 1 if some could not, with 2 if the layout or the file is unusable.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ingestion.formats.interface import RawFile, UnreadableFileError
from ingestion.formats.text import TextFormat
from ingestion.formats.text_layout import LayoutError, read_layout
from tollhouse.file_reasons import FileReason, kept_reason

SHOWN_RECORDS = 5


def main(arguments: list[str] | None = None) -> int:
    """Write what comes out of the file; returns the exit code."""
    parser = argparse.ArgumentParser(description="Try a layout on a sample file.")
    parser.add_argument("layout", type=Path, help="the layout, a YAML file")
    parser.add_argument("file", type=Path, help="a file as the source sends it")
    parser.add_argument("--zone", type=ZoneInfo, default=ZoneInfo("Asia/Shanghai"))
    given = parser.parse_args(arguments)
    try:
        text_format = TextFormat(read_layout(given.layout))
        file = RawFile.of_path(given.file, given.file.name, datetime.now(UTC), given.zone)
        facts = text_format.read_facts(file)
        _write({"file": asdict(facts) | {"lacks": _in_both(facts.lacks)}})
        counts = {"records": 0, "undecoded": 0, "unreadable": 0}
        for row in _rows(text_format, file):
            counts["records"] += 1
            is_undecoded = row["_decode_error"] is not None
            is_unreadable = not is_undecoded and row["_raw_record"] is not None
            counts["undecoded"] += is_undecoded
            counts["unreadable"] += is_unreadable
            if counts["records"] <= SHOWN_RECORDS or is_undecoded or is_unreadable:
                shown = row | {"_decode_detail": _in_both(kept_reason(row["_decode_detail"]))}
                _write({key: value for key, value in shown.items() if value is not None})
    except UnreadableFileError as error:
        sys.stderr.write(f"{_in_both(error.reason)}\n")
        return 2
    except (LayoutError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _write(counts)
    return 1 if counts["undecoded"] or counts["unreadable"] else 0


def _in_both(reason: FileReason | None) -> str | None:
    """What is wrong, in both languages."""
    return None if reason is None else f"{reason.zh} {reason.en}"


def _rows(text_format: TextFormat, file: RawFile) -> Iterator[dict[str, Any]]:
    for batch in text_format.decode(file):
        yield from batch.to_pylist()


def _write(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False, default=str) + "\n")


if __name__ == "__main__":
    sys.exit(main())
