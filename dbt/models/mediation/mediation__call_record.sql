-- Grain: one record of a call that the run in hand puts together (_file_id, _record_number).
-- All records of the call, whatever file they came in and whenever.
--
-- Duplicates: of the records of one identity (the call, and the part of it), the first to arrive
-- (file received, file id, record number) is the original. An identity used again more than the
-- days of its file's duplicate window after its last use is a new one: network elements count their
-- call references round and round.
with

touched_call as (

    select * from {{ ref('mediation__touched_call') }}

),

record as (

    select * from {{ ref('mediation__record') }}
    where call_key in (select call_key from touched_call)

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}

),

arrived as (

    select
        record.*,
        usage_file.received_at,
        usage_file.format,
        usage_file.duplicate_window_days,
        {{ waited_until('usage_file') }} as waited_until
    from record
    inner join usage_file
        on record._file_id = usage_file.file_id

),

spaced as (

    select
        arrived.*,
        lag(started_at) over (
            partition by call_key
            order by started_at, received_at, {{ byte_order('_file_id') }}, _record_number
        ) as previous_started_at
    from arrived

),

counted as (

    select
        spaced.*,
        sum(
            case
                when
                    started_at - previous_started_at
                    > duplicate_window_days * interval '1 day'
                    then 1
                else 0
            end
        ) over (
            partition by call_key
            order by started_at, received_at, {{ byte_order('_file_id') }}, _record_number
            rows between unbounded preceding and current row
        ) as reuse_number
    from spaced

),

arranged as (

    select
        counted.*,
        row_number() over (
            partition by call_key, reuse_number, partial_sequence
            order by received_at, {{ byte_order('_file_id') }}, _record_number
        ) as arrival_number
    from counted

),

final as (

    select
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast(call_key as {{ key_type() }}) as call_key,
        cast(
            case
                when reuse_number = 0 then call_key
                else cast({{ hash_key(['call_key', "'again'", 'reuse_number']) }} as {{ key_type() }})
            end as {{ key_type() }}
        ) as usage_id,
        cast(received_at as timestamp) as received_at,
        cast(waited_until as timestamp) as waited_until,
        cast(format as {{ dbt.type_string() }}) as format,
        cast(started_at as timestamp) as started_at,
        cast(partial_sequence as integer) as partial_sequence,
        cast(is_last_partial as boolean) as is_last_partial,
        cast(duration_seconds as bigint) as duration_seconds,
        cast(uplink_octets as bigint) as uplink_octets,
        cast(downlink_octets as bigint) as downlink_octets,
        cast(cause_for_closing as integer) as cause_for_closing,
        arrival_number > 1 as is_duplicate,
        cast(filter_reason as {{ dbt.type_string() }}) as filter_reason
    from arranged

)

select * from final
