-- Grain: one usage (usage_id).
-- Step 2 of rating, done for every usage whoever owns it: which charge class it is of, and how much
-- of which unit it measures. Zones come from the longest calling code that begins the other party's
-- number, and abroad from the visited network's country.
with

usage as (

    select * from {{ ref('mediation__usage') }}

),

country_zone as (

    select * from {{ ref('country_zone') }}

),

plmn as (

    select * from {{ ref('plmn') }}

),

country_code as (

    select * from {{ ref('country_code') }}

),

-- A network is named by MCC and MNC, or by its TADIG code; both begin with the country.
network_country as (

    select mcc as network_prefix, zone from plmn

    union all

    select country_code.country_iso3 as network_prefix, max(plmn.zone) as zone
    from country_code
    inner join plmn
        on country_code.country_iso = plmn.country_iso
    group by country_code.country_iso3

),

own_service as (

    select short_code from {{ ref('short_code') }} where kind = 'own'

),

other_prefix as (

    select distinct substr(other_party, 1, 7) as number_prefix
    from usage
    where other_party_type = 'e164' and substr(other_party, 1, 2) <> '86'

),

matched_prefix as (

    select
        other_prefix.number_prefix,
        country_zone.zone,
        row_number() over (
            partition by other_prefix.number_prefix
            order by length(country_zone.calling_code) desc
        ) as match_rank
    from other_prefix
    inner join country_zone
        on country_zone.calling_code
            = substr(other_prefix.number_prefix, 1, length(country_zone.calling_code))

),

zoned as (

    select
        usage.*,
        matched_prefix.zone as other_zone,
        case
            when usage.other_party_type = 'e164' then substr(usage.other_party, 1, 2) <> '86'
            else false
        end as is_other_foreign,
        usage.serving_plmn not in (
            {%- for own in var('own_plmns') %}'{{ own }}'{% if not loop.last %}, {% endif %}{% endfor -%}
        ) as is_abroad,
        network_country.zone as visited_zone,
        own_service.short_code is not null as is_own_service
    from usage
    left join matched_prefix
        on substr(usage.other_party, 1, 7) = matched_prefix.number_prefix
        and matched_prefix.match_rank = 1
        and usage.other_party_type = 'e164'
    left join network_country
        on substr(usage.serving_plmn, 1, 3) = network_country.network_prefix
    left join own_service
        on usage.other_party = own_service.short_code
        and usage.other_party_type = 'short_code'

),

classified as (

    select
        zoned.*,
        case
            when is_abroad is null then null -- the serving network is not known
            when service = 'voice' and is_abroad then 'voice_roaming_' || visited_zone
            when service = 'voice' and direction = 'mt' then 'voice_incoming'
            when service = 'voice' and is_other_foreign then 'voice_international_' || other_zone
            when service = 'voice' and is_own_service then 'voice_service'
            when service = 'voice' then 'voice_domestic'
            when service = 'sms' and direction = 'mt' then 'sms_incoming'
            when service = 'sms' and is_abroad then 'sms_roaming'
            when service = 'sms' and is_other_foreign then 'sms_international'
            when service = 'sms' then 'sms_domestic'
            when service = 'data' and is_abroad then 'data_roaming_' || visited_zone
            when service = 'data' then 'data_domestic'
        end as charge_class,
        case service when 'voice' then 'second' when 'data' then 'octet' else 'event' end as unit,
        case service
            when 'voice' then duration_seconds
            when 'data' then uplink_octets + downlink_octets
            else 1
        end as quantity
    from zoned

),

final as (

    select
        usage_id,
        service,
        direction,
        served_msisdn,
        is_abroad,
        cast(other_zone as integer) as other_zone,
        cast(visited_zone as integer) as visited_zone,
        visited_province_code,
        charge_class,
        unit,
        cast(quantity as bigint) as quantity,
        started_at,
        cast({{ civil_time('started_at') }} as date) as charge_date,
        substr(
            cast(cast({{ civil_time('started_at') }} as date) as {{ dbt.type_string() }}), 1, 7
        ) as cycle_id,
        _file_id
    from classified

)

select * from final
