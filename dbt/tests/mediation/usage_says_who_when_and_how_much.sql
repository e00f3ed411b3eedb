-- Rows: usages that lack what rating needs of every usage.
{{ config(tags=['audit']) }}
select usage_id
from {{ ref('mediation__usage') }}
where served_msisdn is null
    or started_at is null
    or duration_seconds is null
    or uplink_octets is null
    or downlink_octets is null
    or source_id is null
    or province_code is null
