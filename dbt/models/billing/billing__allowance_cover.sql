-- Grain: one charge class in one time band that an allowance covers
-- (allowance_id, charge_class, band). Without a band it covers the class all day. A class covers
-- those below it.
with

allowance_coverage as (

    select * from {{ ref('ods__allowance_coverage') }}

),

class_ancestor as (

    select * from {{ ref('billing__class_ancestor') }}

),

final as (

    select distinct
        allowance_coverage.allowance_id,
        class_ancestor.charge_class,
        allowance_coverage.band
    from allowance_coverage
    inner join class_ancestor
        on allowance_coverage.charge_class = class_ancestor.ancestor_class

)

select * from final
