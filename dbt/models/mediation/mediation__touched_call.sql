-- Grain: one call (call_key) that the run in hand has to put together anew.
-- A record of a new file whose call has no other record needs no care: most are such. The others:
--   calls with several records, one of them new; parts of long calls;
--   calls of files that were corrected, landed anew or rolled back, whatever they were before;
--   calls still waiting for a part whose time has run out since the last run.
-- Some engines keep a common table expression that is read twice whole, and the records are all of
-- history: each reads of them what it needs.
{#- What the last run said of calls; not a reference, as it is made from this model. -#}
{%- set said_before = if_built('repeated_record') %}
with

work_file as (

    select * from {{ ref('mediation__work_file') }}

),

changed_file as (

    select * from work_file where is_changed

),

batch as (

    select * from {{ ref('ods__batch') }}
    where purpose = 'mediate'

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status in ('landed', 'mediated')

),

new_record as (

    select call_key, partial_sequence from {{ ref('mediation__record') }}
    where _file_id in (select file_id from work_file)
        and call_key is not null

),

-- A part and a whole call never have the same key.
repeated as (

    select call_key from new_record
    where partial_sequence = 0
    group by call_key
    having count(*) > 1

),

part_of_a_call as (

    select call_key from new_record
    where partial_sequence > 0

),

known_before as (

    select call_key from {{ ref('mediation__record') }}
    where _file_id not in (select file_id from work_file)
        and call_key in (select call_key from new_record)

),

-- Read from raw, not from what is left of a run before: that may have been killed half way. Only
-- rejected records are ever corrected, so what a record counts as now is all it ever counted as.
decoded as (

    select * from {{ decoded_record('changed_file') }} as decoded_record

),

as_decoded as (

    select
        decoded._file_id,
        decoded._record_number,
        decoded.source_id,
        decoded.service,
        decoded.direction,
        coalesce(decoded.served_number, decoded.served_party) as served_msisdn,
        decoded.call_reference,
        decoded.partial_sequence
    from decoded

),

waiting_since as (

    select
        coalesce(max(case when ended_at is not null then started_at end), {{ end_of_time() }})
            as last_begun_at,
        max(case when ended_at is null then started_at end) as begun_at
    from batch

),

part as (

    select _file_id, call_key from {{ ref('mediation__record') }}
    where partial_sequence > 0
        and call_key is not null

),

run_out as (

    select part.call_key
    from part
    inner join usage_file
        on part._file_id = usage_file.file_id
    cross join waiting_since
    where {{ waited_until('usage_file') }} > waiting_since.last_begun_at
        and {{ waited_until('usage_file') }} <= waiting_since.begun_at

),

touched as (

    select call_key from repeated
    union
    select call_key from part_of_a_call
    union
    select call_key from known_before
    union
    select {{ call_key('as_decoded') }} as call_key from as_decoded
    union
    select call_key from run_out
    {%- if said_before %}
    -- A source's settings may have changed since, and with them the keys of its calls.
    union
    select call_key from {{ said_before }}
    where _file_id in (select file_id from changed_file)
    {%- endif %}

),

final as (

    select cast(call_key as {{ key_type() }}) as call_key
    from touched

)

select * from final
