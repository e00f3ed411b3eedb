-- Rows: files whose five outcomes differ from the records landed, or that the journal does not
-- know.
with

raw_record as (

    select _file_id from {{ source('raw', 'switch_cdr') }}
    union all
    select _file_id from {{ source('raw', 'packet_cdr') }}
    union all
    select _file_id from {{ source('raw', 'roaming_cdr') }}

),

file_balance as (

    select * from {{ ref('mediation__file_balance') }}

),

landed as (

    select _file_id, count(*) as raw_count
    from raw_record
    group by _file_id

)

select
    coalesce(landed._file_id, file_balance.file_id) as file_id,
    landed.raw_count,
    file_balance.standard_count,
    file_balance.merged_count,
    file_balance.duplicate_count,
    file_balance.rejected_count,
    file_balance.filtered_count
from landed
full outer join file_balance
    on landed._file_id = file_balance.file_id
where file_balance.file_id is null
    or coalesce(landed.raw_count, 0)
    <> file_balance.standard_count + file_balance.merged_count + file_balance.duplicate_count
    + file_balance.rejected_count + file_balance.filtered_count
