"""The raw formats, one behind the same small interface each (`RawFormat`).

A delimited text format is a YAML layout in this folder and nothing else; the packet format is
code. ``FORMATS`` knows them all; `recognise` tells by content which one a file has.
"""

from __future__ import annotations

from pathlib import Path

from ingestion.formats.delimited import load_layouts
from ingestion.formats.interface import FileFacts, RawFormat, UnreadableFileError
from ingestion.formats.packet import PacketFormat

__all__ = ["FORMATS", "FileFacts", "RawFormat", "UnreadableFileError", "recognise"]

_ALL: list[RawFormat] = [*load_layouts(Path(__file__).parent), PacketFormat()]
FORMATS: dict[str, RawFormat] = {raw_format.name: raw_format for raw_format in _ALL}


def recognise(content: bytes) -> RawFormat | None:
    """The format whose signature the first bytes carry, or None if no format claims them."""
    for raw_format in FORMATS.values():
        if raw_format.recognises(content):
            return raw_format
    return None
