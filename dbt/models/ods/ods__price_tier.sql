-- Grain: one tier of a usage price (usage_price_id, tier_number).
with

price_tier as (

    select * from {{ source('raw', 'catalogue_price_tier') }}

),

final as (

    select
        cast(usage_price_id as {{ dbt.type_string() }}) as usage_price_id,
        cast(tier_number as integer) as tier_number,
        cast(from_quantity as bigint) as from_quantity,
        cast(to_quantity as bigint) as to_quantity,
        cast(increment_quantity as bigint) as increment_quantity,
        cast(per_quantity as bigint) as per_quantity,
        cast(price_amount as numeric(18, 6)) as price_amount,
        cast(_loaded_at as timestamp) as _loaded_at
    from price_tier

)

select * from final
