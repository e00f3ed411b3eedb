"""The warehouse: opening it, its one-writer lock, running dbt in it, and serving what it made.

Python sees every engine through DuckDB: the embedded warehouse is a DuckDB file, the server one a
PostgreSQL database attached to DuckDB. Both are the catalogue ``warehouse`` with the schemas
``raw``, ``ods``, ``mediation``, ``billing``, ``settlement``, ``mid`` and ``dm``, so SQL that only
moves data is written once.
"""

from tollhouse.warehouse.connection import (
    EngineError,
    Warehouse,
    open_warehouse,
    read_published_copy,
    read_warehouse,
)
from tollhouse.warehouse.lock import WarehouseBusyError, writer_lock
from tollhouse.warehouse.maintenance import compact
from tollhouse.warehouse.reference import ReferenceDataError, check_reference_data
from tollhouse.warehouse.serving import publish_analyst_copy, publish_schema
from tollhouse.warehouse.transform import TransformError, TransformResult, transform

__all__ = [
    "EngineError",
    "ReferenceDataError",
    "TransformError",
    "TransformResult",
    "Warehouse",
    "WarehouseBusyError",
    "check_reference_data",
    "compact",
    "open_warehouse",
    "publish_analyst_copy",
    "publish_schema",
    "read_published_copy",
    "read_warehouse",
    "transform",
    "writer_lock",
]
