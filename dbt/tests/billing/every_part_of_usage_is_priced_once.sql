{{ config(meta={'is_uniqueness_test_of': 'billing__usage_charge'}) }}

-- Rows: lines of which other parts of usage are priced than there are, or one of them twice. Of the usage
-- that this run rated; told by digests, since a line has thousands of them.
with

rated as (

    {{ usage_to_rate(ref('billing__usage_segment')) }}

),

part as (

    select line_key, usage_id, usage_price_id
    from rated
    where segment_count = 1

    union all

    select distinct line_key, usage_id, usage_price_id
    from rated
    where segment_count > 1

),

guided as (

    select
        line_key,
        count(*) as part_count,
        {{ row_digest(['usage_id', 'usage_price_id']) }} as digest
    from part
    group by line_key

),

priced as (

    select
        line_key,
        count(*) as part_count,
        {{ row_digest(['usage_id', 'usage_price_id']) }} as digest
    from ({{ usage_to_rate(ref('billing__usage_charge')) }}) as charged
    group by line_key

)

select
    coalesce(guided.line_key, priced.line_key) as line_key,
    guided.part_count as guided_count,
    priced.part_count as priced_count
from guided
full outer join priced
    on guided.line_key = priced.line_key
where guided.part_count is distinct from priced.part_count
    or guided.digest is distinct from priced.digest
