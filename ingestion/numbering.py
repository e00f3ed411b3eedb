"""The number plan 号码归属地: which area every range of mobile numbers belongs to."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from phone import Phone

from tollhouse.warehouse import Warehouse

TABLE = "raw.number_segment_area"
_COLUMNS = {"segment": "varchar(7)", "area_code": "varchar(3)", "_loaded_at": "timestamp"}


def load_number_plan(warehouse: Warehouse) -> int:
    """Bring ``raw.number_segment_area`` up to date with PyPI `phone`; returns the ranges loaded.

    One row a range of ten thousand numbers: its first seven digits, and the area code without the 0
    dialled before it. A plan that is there already is left as it is (0).
    """
    plan = _number_plan()
    warehouse.create_table(TABLE, _COLUMNS)
    query = f"select segment, area_code from {TABLE} order by segment"  # noqa: S608 - our own name
    if warehouse.arrow(query).equals(plan.select(["segment", "area_code"])):
        return 0
    with warehouse.transaction():
        warehouse.execute(f"delete from {TABLE}")  # noqa: S608 - our own name
        warehouse.append(TABLE, plan)
    return int(plan.num_rows)


def _number_plan() -> pa.Table:
    book = Phone()
    layout = np.dtype([("segment", "<i4"), ("place", "<i4"), ("kind", "u1")])
    rows = np.frombuffer(book.buf, dtype=layout, offset=book.first_phone_record_offset)
    # A place reads province|city|post code|area code.
    places, inverse = np.unique(rows["place"], return_inverse=True)
    codes = [
        book.buf[place : book.buf.index(b"\0", place)].decode().rsplit("|", 1)[1].lstrip("0")
        for place in places.tolist()
    ]
    now = datetime.now(UTC).replace(tzinfo=None)
    return pa.table(
        {
            "segment": pa.array(rows["segment"]).cast(pa.string()),
            "area_code": pa.array(codes).take(pa.array(inverse)),
            "_loaded_at": pa.repeat(pa.scalar(now, pa.timestamp("us")), len(rows)),
        }
    )
