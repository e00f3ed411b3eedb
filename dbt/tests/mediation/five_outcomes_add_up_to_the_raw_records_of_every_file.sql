-- Rows: files whose five outcomes differ from the records landed, or that the journal does not
-- know; of the files the run in hand has touched.
with

work_file as (

    select * from {{ ref('mediation__work_file') }}

),

file_balance as (

    select * from {{ ref('mediation__file_balance') }}
    where _batch_id in (select mediation_batch_id from work_file)

)

select
    coalesce(work_file.file_id, file_balance.file_id) as file_id,
    file_balance.decoded_record_count,
    file_balance.raw_count,
    file_balance.standard_count,
    file_balance.merged_count,
    file_balance.duplicate_count,
    file_balance.rejected_count,
    file_balance.filtered_count
from work_file
full outer join file_balance
    on work_file.file_id = file_balance.file_id
where coalesce(work_file.is_live, true) <> (file_balance.file_id is not null)
    or file_balance.raw_count <> file_balance.decoded_record_count
    or file_balance.raw_count
    <> file_balance.standard_count + file_balance.merged_count + file_balance.duplicate_count
    + file_balance.rejected_count + file_balance.filtered_count
