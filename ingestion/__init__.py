"""Ingestion: network files and operational tables become raw tables of the warehouse.

``collect`` takes files in exactly once, ``land`` decodes them into raw records, ``extract`` copies
the operational tables. The sources are listed in ``sources.yaml``, one module per raw format
stands in ``formats/``. ``take_up`` and ``finish`` frame a mediation run; ``retain`` deletes what
was kept long enough.
"""

from ingestion.collect import CollectResult, collect
from ingestion.extract import CONTROL_TABLES, PAYMENT_TABLES, extract
from ingestion.land import LandingError, LandResult, create_raw_tables, land
from ingestion.mediation_work import MediationRun, finish, take_up, unfollowed_files
from ingestion.numbering import load_number_plan
from ingestion.reload import ReloadError, reload
from ingestion.retention import RetainResult, retain
from ingestion.sources import Source, SourcesError, load_sources, register_sources

__all__ = [
    "CONTROL_TABLES",
    "PAYMENT_TABLES",
    "CollectResult",
    "LandResult",
    "LandingError",
    "MediationRun",
    "ReloadError",
    "RetainResult",
    "Source",
    "SourcesError",
    "collect",
    "create_raw_tables",
    "extract",
    "finish",
    "land",
    "load_number_plan",
    "load_sources",
    "register_sources",
    "reload",
    "retain",
    "take_up",
    "unfollowed_files",
]
