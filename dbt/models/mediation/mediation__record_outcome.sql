-- Grain: one raw record (_file_id, _record_number).
-- What became of it: exactly one of rejected, duplicate, filtered, merged, standard, in this order
-- of precedence. A long call is standard at its first part and merged at the others.
with

record as (

    select * from {{ ref('mediation__record') }}

),

long_call as (

    select * from {{ ref('mediation__long_call') }}

),

decided as (

    select
        record.*,
        case
            when record.reject_reason is not null then 'rejected'
            when record.is_duplicate then 'duplicate'
            when record.filter_reason is not null then 'filtered'
            when record.partial_sequence = 0 then 'standard'
            when
                record._file_id = long_call._file_id
                and record._record_number = long_call._record_number
                then 'standard'
            else 'merged'
        end as outcome
    from record
    left join long_call
        on record.usage_id = long_call.usage_id

),

final as (

    select
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(outcome as {{ dbt.type_string() }}) as outcome,
        cast(
            case outcome when 'rejected' then reject_reason when 'filtered' then filter_reason end
            as {{ dbt.type_string() }}
        ) as reason_code,
        cast(
            case when outcome in ('standard', 'merged', 'duplicate') then usage_id end
            as {{ dbt.type_string() }}
        ) as usage_id,
        cast(_batch_id as {{ dbt.type_string() }}) as _batch_id
    from decided

)

select * from final
