"""Ingestion: network files and operational tables become raw tables of the warehouse.

``collect`` takes files in exactly once, ``land`` decodes them into raw tables, ``extract`` copies
the operational tables. The sources are listed in ``sources.yaml``, one module per raw format
stands in ``formats/``.
"""

from ingestion.collect import CollectResult, collect
from ingestion.extract import extract
from ingestion.land import LandResult, create_raw_tables, land
from ingestion.mediated import mark_mediated
from ingestion.sources import Source, load_sources, register_sources

__all__ = [
    "CollectResult",
    "LandResult",
    "Source",
    "collect",
    "create_raw_tables",
    "extract",
    "land",
    "load_sources",
    "mark_mediated",
    "register_sources",
]
