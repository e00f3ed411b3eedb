-- Grain: one thing that guiding usage follows from (kind, name, line_key), with a digest of it.
-- `file`: the usage of one file. `number`: what holds for one served number on one line: who has it,
-- on which plan, in which cycle, whose friends and groups. `everything`: what holds for all usage.
-- Files of a mediation run that has not ended are still changing, whatever they look like.
with

usage_file as (

    select * from {{ ref('mediation__usage_file') }}

),

changing_file as (

    select distinct mediation_work.file_id
    from {{ ref('ods__mediation_work') }} as mediation_work
    inner join {{ ref('ods__batch') }} as batch
        on mediation_work.batch_id = batch.batch_id
    where batch.purpose = 'mediate' and batch.ended_at is null

),

plan_in_cycle as (

    select * from {{ ref('billing__plan_in_cycle') }}

),

friend as (

    select subscription_id, {{ row_digest(['number', 'valid_from', 'valid_to']) }} as digest
    from {{ ref('ods__friend_number') }}
    group by subscription_id

),

call_group as (

    select call_group_id, {{ row_digest(['number', 'valid_from', 'valid_to']) }} as digest
    from {{ ref('billing__group_number') }}
    group by call_group_id

),

membership as (

    select
        call_group_member.subscription_id,
        {{ row_digest([
            'call_group_member.valid_from', 'call_group_member.valid_to', 'call_group.digest',
        ]) }} as digest
    from {{ ref('ods__call_group_member') }} as call_group_member
    left join call_group
        on call_group_member.call_group_id = call_group.call_group_id
    group by call_group_member.subscription_id

),

number as (

    select
        plan_in_cycle.msisdn,
        plan_in_cycle.line_key,
        {{ row_digest([
            'plan_in_cycle.product_instance_id', 'plan_in_cycle.cycle_id',
            'plan_in_cycle.subscription_id', 'plan_in_cycle.account_bin', 'plan_in_cycle.province_code',
            'plan_in_cycle.is_fixed_line', 'plan_in_cycle.home_area_code',
            'plan_in_cycle.time_zone', 'plan_in_cycle.plan_version_id', 'plan_in_cycle.held_to',
            'plan_in_cycle.ahead_seconds', 'plan_in_cycle.is_late', 'plan_in_cycle.from_at',
            'plan_in_cycle.to_at', 'friend.digest', 'membership.digest',
        ]) }} as digest
    from plan_in_cycle
    left join friend
        on plan_in_cycle.subscription_id = friend.subscription_id
    left join membership
        on plan_in_cycle.subscription_id = membership.subscription_id
    group by plan_in_cycle.msisdn, plan_in_cycle.line_key

),

{%- set held_for_all = {
    ref('billing__billed_cycle'):
        ['cycle_id', 'starts_at', 'ends_at', 'is_closed', 'billed_cycle_id'],
    ref('billing__priced_class'): ['plan_version_id', 'charge_class', 'is_banded'],
    ref('billing__content_price'):
        ['plan_version_id', 'sp_id', 'content_id', 'valid_from', 'valid_to'],
    ref('billing__source_area'): ['source_id', 'area_code'],
    ref('ods__number_area'): ['area_prefix', 'area_code'],
    ref('country_code'): ['country_iso', 'country_iso3'],
    ref('country_zone'): ['calling_code', 'zone'],
    ref('plmn'): ['mcc', 'country_iso', 'zone'],
    ref('short_code'): ['short_code', 'kind'],
} %}

everything as (

    {%- for relation, columns in held_for_all.items() %}
    select
        {{ loop.index }} as part_number,
        count(*) as row_count,
        coalesce({{ row_digest(columns) }}, '') as digest
    from {{ relation }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

final as (

    select
        'file' as kind,
        usage_file.file_id as name,
        cast(null as {{ key_type() }}) as line_key,
        case when changing_file.file_id is not null then 'changing' else usage_file.digest end
            as digest
    from usage_file
    left join changing_file
        on usage_file.file_id = changing_file.file_id

    union all

    select 'number' as kind, msisdn as name, line_key, digest
    from number

    union all

    select
        'everything' as kind,
        '{{ var("own_plmns") | join(" ") }}' as name,
        cast(null as {{ key_type() }}) as line_key,
        {{ row_digest(['part_number', 'row_count', 'digest']) }} as digest
    from everything

)

select
    cast(kind as {{ dbt.type_string() }}) as kind,
    cast(name as {{ dbt.type_string() }}) as name,
    line_key,
    cast(digest as {{ dbt.type_string() }}) as digest
from final
