-- Grain: one usage (usage_id).
-- Step 2 of rating, done for every usage whoever owns it: which charge class it is of, and how much
-- of which unit it measures. Zones come from the longest calling code that begins the other party's
-- number, and abroad from the visited network's country. Content has the price that its provider
-- published: usage of what nobody published has no class.
-- A view: it is read as often as it would be written.
{{ config(materialized='view') }}
{#- Calling codes have up to seven digits; the longest that begins the number counts. #}
{%- set code_lengths = range(1, 8) | reverse | list %}
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

source as (

    select * from {{ ref('billing__source_area') }}

),

content_price as (

    select * from {{ ref('billing__content_price') }}

),

own_service as (

    select short_code from {{ ref('short_code') }} where kind = 'own'

),

-- Only the few numbers and networks that need looking up have something to look up by.
addressed as (

    select
        usage.*,
        case
            when other_party_type = 'e164' and substr(other_party, 1, 2) <> '86'
                then substr(other_party, 1, 7)
        end as foreign_prefix,
        case when other_party_type = 'short_code' then other_party end as own_code,
        case
            when other_party_type = 'e164' and service = 'voice' and direction <> 'mt'
                then {{ area_prefix('other_party') }}
        end as area_prefix,
        -- A fixed line has no serving network: it is never abroad.
        coalesce(
            serving_plmn not in (
                {%- for own in var('own_plmns') %}'{{ own }}'{% if not loop.last %}, {% endif %}{% endfor -%}
            ),
            case
                when substr(served_msisdn, 1, 2) = '86'
                    and not {{ is_mobile_number('served_msisdn') }} then false
            end
        ) as is_abroad
    from usage

),

zoned as (

    select
        addressed.*,
        coalesce(
            {%- for length in code_lengths %}
            code_{{ length }}.zone{% if not loop.last %},{% endif %}
            {%- endfor %}
        ) as other_zone,
        network_country.zone as visited_zone,
        source.area_code as serving_area_code,
        content_price.plan_version_id as content_version_id
    from addressed
    left join source
        on addressed.source_id = source.source_id
    left join content_price
        on addressed.sp_id = content_price.sp_id
        and addressed.content_id = content_price.content_id
        and addressed.service = 'vas'
        and addressed.started_at >= content_price.valid_from
        and addressed.started_at < content_price.valid_to
    {%- for length in code_lengths %}
    left join country_zone as code_{{ length }}
        on substr(addressed.foreign_prefix, 1, {{ length }}) = code_{{ length }}.calling_code
        and length(code_{{ length }}.calling_code) = {{ length }}
    {%- endfor %}
    left join network_country
        on case when addressed.is_abroad then substr(addressed.serving_plmn, 1, 3) end
            = network_country.network_prefix

),

classified as (

    select
        zoned.*,
        case
            when service = 'vas' and content_version_id is not null then 'vas_content'
            when service = 'vas' and sp_id is not null then null -- nobody published it
            when service = 'vas' then 'vas_event'
            when is_abroad is null then null -- the serving network is not known
            when service = 'data' and is_abroad then 'data_roaming_' || visited_zone
            when service = 'data' then 'data_domestic'
            when service = 'voice' and is_abroad and direction = 'mt'
                then 'voice_roaming_incoming_' || visited_zone
            when service = 'voice' and is_abroad then 'voice_roaming_' || visited_zone
            when service = 'voice' and direction = 'mt' then 'voice_incoming'
            when service = 'voice' and foreign_prefix is not null
                then 'voice_international_' || other_zone
            when service = 'voice' and own_code in (select short_code from own_service)
                then 'voice_service'
            when service = 'voice' and direction = 'forwarded' then 'voice_forwarded'
            when service = 'voice' then 'voice_domestic'
            when direction = 'mt' and service in ('sms', 'mms') then service || '_incoming'
            when service in ('sms', 'mms') and is_abroad then service || '_roaming'
            when service in ('sms', 'mms') and foreign_prefix is not null
                then service || '_international'
            when service in ('sms', 'mms') then service || '_domestic'
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
        cast(usage_id as {{ key_type() }}) as usage_id,
        service,
        direction,
        served_msisdn,
        other_party,
        is_abroad,
        visited_province_code,
        area_prefix,
        serving_area_code,
        content_version_id,
        charge_class,
        unit,
        cast(quantity * 1000000 as bigint) as quantity_micro,
        started_at,
        _file_id
    from classified

)

select * from final
