-- Rows: services whose seconds or octets were lost or made up while long calls were put together.
{{ config(tags=['audit']) }}
with

record as (

    select * from {{ ref('mediation__record_outcome') }}
    where outcome = 'standard'
        or (outcome = 'merged' and reason_code is null)

),

usage as (

    select * from {{ ref('mediation__usage') }}

),

recorded as (

    select
        service,
        sum(duration_seconds) as seconds,
        sum(uplink_octets + downlink_octets) as octets
    from record
    group by service

),

used as (

    select
        service,
        sum(duration_seconds) as seconds,
        sum(uplink_octets + downlink_octets) as octets
    from usage
    group by service

)

select
    recorded.service as recorded_service,
    used.service as used_service
from recorded
full outer join used
    on recorded.service = used.service
where recorded.seconds is distinct from used.seconds
    or recorded.octets is distinct from used.octets
