-- Grain: one run of missing file numbers of a source, before the file that follows it
-- (next_file_id).
-- Between the lowest and the highest number received, of each day where numbers begin anew every day;
-- only sources whose numbers are continuous. Where they go round after a last one, each file stands
-- the shorter way round from the one that arrived before it. A number that is wrong by millions makes
-- one long run, not millions of rows.
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

numbered as (

    select
        usage_file.source_id,
        usage_file.sequence_date,
        usage_file.file_id,
        usage_file.received_at,
        usage_file.sequence_number,
        source.sequence_first,
        case
            when usage_file.sequence_date is null
                then source.sequence_last - source.sequence_first + 1
        end as span
    from usage_file
    inner join source
        on usage_file.source_id = source.source_id

),

followed as (

    select
        numbered.*,
        first_value(sequence_number) over (
            partition by source_id, sequence_date
            order by received_at, sequence_number, {{ byte_order('file_id') }}
        ) as beginning,
        sequence_number - lag(sequence_number) over (
            partition by source_id, sequence_date
            order by received_at, sequence_number, {{ byte_order('file_id') }}
        ) as difference
    from numbered

),

stepped as (

    select
        followed.*,
        coalesce(mod(mod(difference, span) + span, span), 0) as step_up
    from followed

),

placed as (

    select
        stepped.*,
        case
            when span is null then sequence_number
            else beginning + cast(
                sum(case when 2 * step_up > span then step_up - span else step_up end) over (
                    partition by source_id, sequence_date
                    order by received_at, sequence_number, {{ byte_order('file_id') }}
                    rows between unbounded preceding and current row
                ) as bigint
            )
        end as place
    from stepped

),

neighbour as (

    select
        placed.*,
        lag(place) over (
            partition by source_id, sequence_date
            order by place, {{ byte_order('file_id') }}
        ) as previous_place
    from placed

),

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(sequence_date as date) as sequence_date,
        cast(file_id as {{ dbt.type_string() }}) as next_file_id,
        cast(
            case
                when span is null then previous_place + 1
                else
                    sequence_first
                    + mod(mod(previous_place + 1 - sequence_first, span) + span, span)
            end as bigint
        ) as first_missing_number,
        cast(
            case
                when span is null then place - 1
                else sequence_first + mod(mod(place - 1 - sequence_first, span) + span, span)
            end as bigint
        ) as last_missing_number,
        cast(place - previous_place - 1 as bigint) as missing_count
    from neighbour
    where place > previous_place + 1

)

select * from final
