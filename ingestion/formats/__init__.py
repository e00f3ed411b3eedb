"""The raw formats, one behind the same small interface each (`RawFormat`).

A text format is a YAML layout in this folder and nothing else; the binary ones are code.
``FORMATS`` knows them all.
"""

from __future__ import annotations

from pathlib import Path

from ingestion.formats.charging_record import ChargingRecordFormat
from ingestion.formats.interface import FileFacts, RawFile, RawFormat, UnreadableFileError
from ingestion.formats.netflow import IpfixFormat, NetflowFormat
from ingestion.formats.nrtrde import NrtrdeFormat
from ingestion.formats.radius_detail import RadiusDetailFormat
from ingestion.formats.rap import RapFormat
from ingestion.formats.tap import TapFormat
from ingestion.formats.text import load_layouts

__all__ = ["FORMATS", "FileFacts", "RawFile", "RawFormat", "UnreadableFileError"]

_ALL: list[RawFormat] = [
    *load_layouts(Path(__file__).parent),
    ChargingRecordFormat(),
    TapFormat(),
    NrtrdeFormat(),
    RapFormat(),
    RadiusDetailFormat(),
    NetflowFormat(),
    IpfixFormat(),
]
FORMATS: dict[str, RawFormat] = {raw_format.name: raw_format for raw_format in _ALL}
