-- Grain: one version of the price of one content (plan_version_id), and the provider's codes by which
-- records name the content.
with

offering as (

    select * from {{ ref('ods__offering') }} where offering_type = 'content'

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

final as (

    select
        price_plan_version.plan_version_id,
        offering.sp_id,
        offering.content_id,
        price_plan_version.valid_from,
        coalesce(price_plan_version.valid_to, {{ end_of_time() }}) as valid_to
    from offering
    inner join price_plan_version
        on offering.offering_id = price_plan_version.offering_id

)

select * from final
