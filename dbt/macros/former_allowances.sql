{# What was left of the buckets of final cycles: a subquery with the columns bucket_id, allowance_id,
   cycle_id, origin_cycle_id, account_id, product_instance_id and left_micro.

   The rows of final cycles stay as they are, so what is rolled over from them is no loop: the tables
   are looked up by name, not referred to. Nothing before the first cycle was rated. #}
{% macro former_allowances() -%}
    {%- set bucket, draw = if_built('allowance_bucket'), if_built('allowance_draw') -%}
    {%- if bucket is not none and draw is not none -%}
    (
        select
            bucket.bucket_id, bucket.allowance_id, bucket.cycle_id, bucket.origin_cycle_id,
            bucket.account_id, bucket.product_instance_id,
            bucket.size_micro - coalesce(drawn.drawn_micro, 0) as left_micro
        from {{ bucket }} as bucket
        left join (
            select bucket_id, sum(drawn_micro) as drawn_micro from {{ draw }} group by bucket_id
        ) as drawn
            on bucket.bucket_id = drawn.bucket_id
        where bucket.cycle_id not in {{ open_cycles() }}
    )
    {%- else -%}
    (
        select
            cast(null as {{ dbt.type_string() }}) as bucket_id,
            cast(null as {{ dbt.type_string() }}) as allowance_id,
            cast(null as {{ dbt.type_string() }}) as cycle_id,
            cast(null as {{ dbt.type_string() }}) as origin_cycle_id,
            cast(null as {{ dbt.type_string() }}) as account_id,
            cast(null as {{ dbt.type_string() }}) as product_instance_id,
            cast(0 as bigint) as left_micro
        where 1 = 0
    )
    {%- endif -%}
{%- endmacro %}
