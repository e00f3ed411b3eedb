{{ config(
    materialized='replaced_rows',
    replaced=['rows_of_changed_files', 'rows_of_changed_numbers', 'strays_of_changed_numbers'],
    looked_up_by=['_file_id', 'line_key'],
    stored_in_order='account_bin',
) }}

-- Grain: one usage (usage_id): the line it is billed to, its plan and its class.
-- Step 1 of rating: who pays, by what was valid at the event, not today. Usage of a closed cycle that
-- was not rated in it is late: by the policy of its plan it goes on the next bill, or waits. What
-- finds no line has none here and is in `billing.suspended_usage`, with the reason.
-- A run guides the usage of files and of numbers of which something changed (`billing.guiding_change`).
-- Narrow, since there are millions: `billing.guided_usage` tells the rest.
-- depends_on: {{ ref('billing__cycle_line') }}, {{ ref('ods__billing_cycle') }}
-- depends_on: {{ ref('billing__billed_cycle') }}, {{ ref('billing__guiding_change') }}
with

classified_usage as (

    {%- for condition in usage_to_guide() %}
    select * from {{ ref('billing__classified_usage') }}
    where started_at >= {{ closed_until() }} and {{ condition }}

    union all
    {% endfor %}

    select * from {{ ref('billing__late_usage') }}

),

plan_in_cycle as (

    select * from {{ ref('billing__plan_in_cycle') }}

),

priced_class as (

    select * from {{ ref('billing__priced_class') }}

),

number_area as (

    select * from {{ ref('ods__number_area') }}

),

friend_number as (

    select * from {{ ref('ods__friend_number') }}

),

call_group_member as (

    select * from {{ ref('ods__call_group_member') }}

),

group_number as (

    select * from {{ ref('billing__group_number') }}

),

owned as (

    select
        classified_usage.*,
        plan_in_cycle.line_key,
        plan_in_cycle.account_bin,
        plan_in_cycle.is_late,
        plan_in_cycle.province_code,
        plan_in_cycle.time_zone,
        plan_in_cycle.ahead_seconds,
        plan_in_cycle.subscription_id,
        plan_in_cycle.is_fixed_line,
        plan_in_cycle.home_area_code,
        coalesce(classified_usage.content_version_id, plan_in_cycle.plan_version_id)
            as plan_version_id,
        plan_in_cycle.held_to,
        case
            when classified_usage.is_abroad then 'international'
            when classified_usage.visited_province_code <> plan_in_cycle.province_code
                then 'domestic'
            else 'home'
        end as roaming_class
    from classified_usage
    left join plan_in_cycle
        on classified_usage.served_msisdn = plan_in_cycle.msisdn
        and classified_usage.started_at >= plan_in_cycle.from_at
        and classified_usage.started_at < plan_in_cycle.to_at

),

-- Whom a call went to, from where it stands with its owner.
related as (

    select
        owned.*,
        number_area.area_code as other_area_code,
        friend_number.number is not null as is_friend,
        group_number.number is not null as is_group
    from owned
    left join number_area
        on owned.area_prefix = number_area.area_prefix
    left join friend_number
        on owned.subscription_id = friend_number.subscription_id
        and owned.other_party = friend_number.number
        and owned.charge_class = 'voice_domestic'
        and owned.started_at >= friend_number.valid_from
        and owned.started_at < coalesce(friend_number.valid_to, {{ end_of_time() }})
    left join call_group_member
        on owned.subscription_id = call_group_member.subscription_id
        and owned.charge_class = 'voice_domestic'
        and owned.started_at >= call_group_member.valid_from
        and owned.started_at < coalesce(call_group_member.valid_to, {{ end_of_time() }})
    left join group_number
        on call_group_member.call_group_id = group_number.call_group_id
        and owned.other_party = group_number.number
        and owned.started_at >= group_number.valid_from
        and owned.started_at < group_number.valid_to

),

-- What only the owner's home and relations tell of the class.
placed as (

    select
        related.*,
        {{ class_at_home('related') }} as home_class
    from related

),

guided as (

    select
        placed.usage_id,
        case when priced_class.charge_class is not null then placed.line_key end as line_key,
        placed.account_bin,
        placed.is_late,
        placed.charge_class,
        placed.roaming_class,
        placed.quantity_micro,
        placed.started_at,
        placed.time_zone,
        placed.ahead_seconds,
        priced_class.class_key,
        priced_class.is_banded,
        placed.unit = 'second'
        and {{ add_microseconds('placed.started_at', 'abs(placed.quantity_micro)') }}
        > placed.held_to as is_outlasting,
        placed.served_msisdn,
        placed.service,
        placed._file_id
    from placed
    left join priced_class
        on placed.plan_version_id = priced_class.plan_version_id
        and placed.home_class = priced_class.charge_class

),

final as (

    select
        usage_id,
        line_key,
        case when line_key is not null then account_bin end as account_bin,
        case when line_key is not null then class_key end as class_key,
        case when line_key is not null then roaming_class end as roaming_class,
        quantity_micro,
        started_at,
        case
            when line_key is not null then cast(
                case
                    when ahead_seconds is not null
                        then started_at + ahead_seconds * interval '1 second'
                    else {{ civil_time('started_at', 'time_zone') }}
                end as date
            )
        end as charge_date,
        line_key is not null and is_banded as is_banded,
        -- Whether it may have to be split.
        line_key is not null and (is_banded or is_outlasting) as is_split,
        line_key is not null and is_late as is_late,
        -- What nothing else tells of usage without a line.
        case when line_key is null then served_msisdn end as stray_msisdn,
        case when line_key is null then service end as stray_service,
        case when line_key is null then charge_class end as stray_class,
        _file_id
    from guided

)

select * from final
