-- Grain: one missing file number of a source (source_id, missing_sequence_number).
-- Between the lowest and the highest number received; only sources whose numbers are continuous.
with recursive

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status in ('collected', 'landed', 'mediated')
        and sequence_number is not null

),

source as (

    select * from {{ ref('ods__source') }}
    where sequence_rule = 'continuous'

),

neighbour as (

    select
        usage_file.source_id,
        usage_file.sequence_number,
        lead(usage_file.sequence_number) over (
            partition by usage_file.source_id
            order by usage_file.sequence_number
        ) as next_sequence_number
    from usage_file
    inner join source
        on usage_file.source_id = source.source_id

),

missing as (

    select
        source_id,
        sequence_number + 1 as missing_sequence_number,
        next_sequence_number
    from neighbour
    where next_sequence_number > sequence_number + 1

    union all

    select
        source_id,
        missing_sequence_number + 1,
        next_sequence_number
    from missing
    where missing_sequence_number + 1 < next_sequence_number

),

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(missing_sequence_number as bigint) as missing_sequence_number
    from missing

)

select * from final
