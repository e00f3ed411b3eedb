-- Grain: one run of missing file numbers of a source (source_id, first_missing_number).
-- Between the lowest and the highest number received; only sources whose numbers are continuous. A
-- number that is wrong by millions makes one long run, not millions of rows.
with

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

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(sequence_number + 1 as bigint) as first_missing_number,
        cast(next_sequence_number - 1 as bigint) as last_missing_number,
        cast(next_sequence_number - sequence_number - 1 as bigint) as missing_count
    from neighbour
    where next_sequence_number > sequence_number + 1

)

select * from final
