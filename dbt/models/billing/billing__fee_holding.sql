{{ config(materialized='view') }}

-- Grain: one interval of a product instance under one version of its offering and, of what is held
-- through a bundle, under one version of the bundle or without it (product_instance_id,
-- plan_version_id, held_from).
-- Of each product its intervals follow one another as those of its versions do. Before the bundle
-- and after it a component is charged as any other product is.
with

product_holding as (

    select * from {{ ref('billing__product_holding') }}

),

bundle_component as (

    select * from {{ ref('ods__bundle_component') }}

),

bundle_holding as (

    select
        product_instance_id as bundle_instance_id,
        plan_version_id as bundle_version_id,
        held_from,
        held_to,
        lag(held_to) over (partition by product_instance_id order by held_from) as former_to,
        lead(held_from) over (partition by product_instance_id order by held_from) as next_from
    from product_holding
    where role = 'bundle'

),

-- All time, as each bundle divides it.
bundle_time as (

    select
        bundle_instance_id,
        bundle_version_id,
        held_from,
        held_to,
        false as is_after_bundle
    from bundle_holding

    union all

    select
        bundle_instance_id,
        cast(null as {{ dbt.type_string() }}) as bundle_version_id,
        {{ beginning_of_time() }} as held_from,
        held_from as held_to,
        false as is_after_bundle
    from bundle_holding
    where former_to is null

    union all

    select
        bundle_instance_id,
        cast(null as {{ dbt.type_string() }}) as bundle_version_id,
        held_to as held_from,
        coalesce(next_from, {{ end_of_time() }}) as held_to,
        true as is_after_bundle
    from bundle_holding
    where next_from is null or next_from > held_to

),

divided as (

    select
        product_holding.*,
        bundle_time.bundle_version_id,
        coalesce(
            bundle_time.is_after_bundle and bundle_time.held_from > product_holding.held_from, false
        ) as is_after_bundle,
        greatest(
            product_holding.held_from, coalesce(bundle_time.held_from, product_holding.held_from)
        ) as part_from,
        least(
            product_holding.held_to, coalesce(bundle_time.held_to, product_holding.held_to)
        ) as part_to
    from product_holding
    left join bundle_time
        on product_holding.bundle_instance_id = bundle_time.bundle_instance_id
        and product_holding.held_from < bundle_time.held_to
        and product_holding.held_to > bundle_time.held_from

),

final as (

    select
        divided.product_instance_id,
        divided.role,
        divided.subscription_id,
        divided.account_id,
        divided.customer_id,
        divided.province_code,
        divided.time_zone,
        divided.offering_id,
        divided.plan_version_id,
        divided.first_month_rule,
        divided.bundle_version_id,
        cast(bundle_component.fee_rule as {{ dbt.type_string() }}) as fee_rule,
        cast(bundle_component.fee_amount as decimal(18, 6)) as fee_amount,
        cast(divided.is_after_bundle as boolean) as is_after_bundle,
        cast(divided.part_from as timestamp) as held_from,
        cast(divided.part_to as timestamp) as held_to
    from divided
    left join bundle_component
        on divided.bundle_version_id = bundle_component.plan_version_id
        and divided.offering_id = bundle_component.offering_id

)

select * from final
