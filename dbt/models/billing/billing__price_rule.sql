-- Grain: one usage price (usage_price_id): how what its steps give becomes a charge. Amounts are
-- numerators over the version's denominator, as the costs of the steps are.
with

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

price_step as (

    select * from {{ ref('billing__price_step') }}

),

scaled as (

    select
        usage_price.*,
        price_plan_version.cost_denominator,
        usage_price.model <> 'slots' as is_of_cycle,
        {{ quantity_micro('usage_price.repeat_quantity') }} as repeat_micro
    from usage_price
    inner join price_plan_version
        on usage_price.plan_version_id = price_plan_version.plan_version_id

),

final as (

    select
        scaled.usage_price_id,
        scaled.plan_version_id,
        scaled.bill_item_code,
        scaled.is_of_cycle,
        scaled.repeat_micro,
        cast(
            case when scaled.repeat_micro is not null
                then {{ step_cost('scaled.repeat_micro', 'price_step') }}
            end as decimal(38, 0)
        ) as repeat_numerator,
        {%- for part in ['connection_fee', 'minimum', 'maximum'] %}
        cast(
            {{ to_micro('scaled.' ~ part ~ '_amount') }} * scaled.cost_denominator
            as decimal(38, 0)
        ) as {{ part }}_numerator,
        {%- endfor %}
        scaled.cost_denominator,
        scaled.rounding_mode,
        cast({{ power_of_ten('6 - scaled.rounding_digits') }} as bigint) as rounding_micro
    from scaled
    left join price_step
        on scaled.usage_price_id = price_step.usage_price_id
        and scaled.repeat_micro > price_step.above_micro
        and scaled.repeat_micro <= price_step.up_to_micro

)

select * from final
