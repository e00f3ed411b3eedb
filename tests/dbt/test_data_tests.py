"""A data test fails where its claim does not hold: tables are damaged, in a copy, to see it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse, transform
from tollhouse.warehouse.transform import TransformError

pytestmark = pytest.mark.pipeline

# The tests look at what the last run did: it did everything.
EVERYTHING = """
    insert into billing.guiding_change values ('everything', '', null);
    delete from billing.dirty_line;
    insert into billing.dirty_line (line_key, account_bin, rated_from, is_rated_again, slice_number)
    select distinct line_key, account_bin, timestamp '1900-01-01', true, 0
    from billing.usage_guide where line_key is not null
"""
WHOLE = "(select min(usage_id) from billing.usage_segment where segment_count = 1)"
ANOTHER = "cast('00000000-0000-0000-0000-000000000000' as uuid)"
# A usage that was priced as one is said to have two parts under two prices.
TWO_PARTS = f"""
    insert into billing.split_usage
    select usage_id, number, 2, line_key, account_bin, plan_version_id, usage_price_id || number,
        charge_class, band, started_at, held_at, quantity_micro
    from billing.usage_segment
    cross join (values (1), (2)) as part (number)
    where usage_id = {WHOLE};
    update billing.usage_guide set is_split = true
    where usage_id in (select usage_id from billing.split_usage where segment_count = 2)
"""

DAMAGES = {
    "every_part_of_usage_is_priced_once": {
        "one is not priced": f"delete from billing.usage_charge where usage_id = {WHOLE}",
        "one is priced twice": "insert into billing.usage_charge"
        f" select * from billing.usage_charge where usage_id = {WHOLE}",
        "another is priced": f"update billing.usage_charge set usage_id = {ANOTHER}"
        f" where usage_id = {WHOLE}",
        "a part is not priced": TWO_PARTS,
    },
    "usage_has_one_owner_and_one_price": {
        "one has two": "insert into billing.usage_guide"
        f" select * from billing.usage_guide where usage_id = {WHOLE}",
    },
    "part_of_a_usage_is_numbered_once": {
        "two are one": TWO_PARTS + "; update billing.split_usage set segment_number = 1"
        " where usage_id in (select usage_id from billing.usage_guide where is_split)",
    },
    "parts_of_a_split_usage_add_up_to_it": {
        "one has no parts": "update billing.usage_guide set is_split = true"
        f" where usage_id = {WHOLE}",
        "they are more": TWO_PARTS,
    },
    "part_of_a_usage_draws_once_from_a_bucket": {
        "one draws twice": "insert into billing.allowance_draw"
        " select * from billing.allowance_draw order by usage_id, draw_rank limit 1",
    },
}


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for name, kinds in DAMAGES.items() for damage in kinds]
)
def test_a_data_test_finds_what_it_is_there_for(
    small_carrier: Settings, tmp_path: Path, name: str, damage: str
) -> None:
    damaged = Settings(home=tmp_path, subscribers=200)
    shutil.copy(small_carrier.warehouse_file, damaged.warehouse_file)
    with open_warehouse(damaged, "say what was done") as warehouse:
        warehouse.execute(EVERYTHING)
    assert transform(damaged, [name], command="test").succeeded == 1
    with open_warehouse(damaged, "damage") as warehouse:
        warehouse.execute(DAMAGES[name][damage])
    with pytest.raises(TransformError, match=name):
        transform(damaged, [name], command="test")
