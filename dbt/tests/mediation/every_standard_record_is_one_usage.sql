-- Rows: standard records without their usage, and usages without their standard record.
{{ config(tags=['audit']) }}
with

standard as (

    select * from {{ ref('mediation__record_outcome') }}
    where outcome = 'standard'

),

usage as (

    select * from {{ ref('mediation__usage') }}
    where not is_continued

)

select
    standard._file_id,
    standard._record_number,
    usage.usage_id
from standard
full outer join usage
    on standard._file_id = usage._file_id
    and standard._record_number = usage._record_number
where standard.usage_id is distinct from usage.usage_id
