{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one part of a bill item (bill_item_key): a line's charges of one kind, what a minimum makes
-- of them, what a discount takes off, or what an account pays for the line of another (on the
-- payer's bill, and less on the line's own).
-- Prices include the tax. Of each tax class of a bill it is rounded once, after discounts, and shared
-- out over the parts by largest remainder, so that net and tax add up everywhere.
with

charged_item as (

    select * from {{ ref('billing__charged_item') }}
    where cycle_id in {{ open_cycles() }}

),

discount as (

    select * from {{ ref('billing__discount') }}

),

payment_share as (

    select * from {{ ref('billing__payment_share') }}

),

account as (

    select * from {{ ref('ods__account') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

bill_item_kind as (

    select * from {{ ref('bill_item') }}

),

tax_rate as (

    select * from {{ ref('tax_rate') }}

),

-- What every part of a line's bill has from the line.
line as (

    select
        subscription_id,
        cycle_id,
        min(account_id) as account_id,
        min(customer_id) as customer_id,
        min(province_code) as province_code,
        min(offering_id) as offering_id,
        min(currency_code) as currency_code
    from charged_item
    group by subscription_id, cycle_id

),

{%- set line_columns = ['province_code', 'offering_id', 'currency_code'] %}

part as (

    select
        charged_item.account_id,
        charged_item.customer_id,
        charged_item.subscription_id,
        charged_item.cycle_id,
        charged_item.bill_item_code,
        'charge' as item_kind,
        cast(null as {{ dbt.type_string() }}) as discount_id,
        cast(null as {{ dbt.type_string() }}) as discount_name_zh,
        cast(null as {{ dbt.type_string() }}) as discount_name_en,
        cast(null as {{ dbt.type_string() }}) as other_account_id,
        charged_item.quantity,
        charged_item.unit,
        charged_item.charge_amount,
        cast(null as bigint) as base_fen,
        charged_item.amount_fen,
        {%- for column in line_columns %}
        charged_item.{{ column }}{% if not loop.last %},{% endif %}
        {%- endfor %}
    from charged_item

    union all

    select
        line.account_id,
        line.customer_id,
        line.subscription_id,
        line.cycle_id,
        discount.bill_item_code,
        case when discount.kind = 'minimum' then 'minimum' else 'discount' end as item_kind,
        discount.discount_id,
        discount.name_zh as discount_name_zh,
        discount.name_en as discount_name_en,
        cast(null as {{ dbt.type_string() }}) as other_account_id,
        cast(null as bigint) as quantity,
        cast(null as {{ dbt.type_string() }}) as unit,
        cast(0 as decimal(18, 6)) as charge_amount,
        discount.base_fen,
        discount.amount_fen,
        {%- for column in line_columns %}
        line.{{ column }}{% if not loop.last %},{% endif %}
        {%- endfor %}
    from discount
    inner join line
        on discount.subscription_id = line.subscription_id
        and discount.cycle_id = line.cycle_id
    {%- for side in ['payer', 'member'] %}

    union all

    select
        {%- if side == 'payer' %}
        payment_share.payer_account_id as account_id,
        account.customer_id,
        {%- else %}
        line.account_id,
        line.customer_id,
        {%- endif %}
        line.subscription_id,
        line.cycle_id,
        payment_share.bill_item_code,
        'share' as item_kind,
        cast(null as {{ dbt.type_string() }}) as discount_id,
        cast(null as {{ dbt.type_string() }}) as discount_name_zh,
        cast(null as {{ dbt.type_string() }}) as discount_name_en,
        {{ 'line.account_id' if side == 'payer' else 'payment_share.payer_account_id' }}
            as other_account_id,
        cast(null as bigint) as quantity,
        cast(null as {{ dbt.type_string() }}) as unit,
        cast(0 as decimal(18, 6)) as charge_amount,
        -- Of several promises of one payer for one line, both are what it was computed on.
        cast(sum(payment_share.base_fen) as bigint) as base_fen,
        cast({{ '' if side == 'payer' else '-' }}sum(payment_share.amount_fen) as bigint)
            as amount_fen,
        {%- for column in line_columns %}
        line.{{ column }}{% if not loop.last %},{% endif %}
        {%- endfor %}
    from payment_share
    inner join line
        on payment_share.subscription_id = line.subscription_id
        and payment_share.cycle_id = line.cycle_id
    inner join account
        on payment_share.payer_account_id = account.account_id
    group by
        {% if side == 'payer' %}account.customer_id, {% endif -%}
        payment_share.payer_account_id, line.account_id, line.customer_id, line.subscription_id,
        line.cycle_id, payment_share.bill_item_code, line.province_code, line.offering_id,
        line.currency_code
    {%- endfor %}

),

-- The rate on the first day of the cycle; rates have changed on the first of a month only.
rate_by_date as (

    select
        billing_cycle.cycle_id,
        tax_rate.tax_class,
        tax_rate.rate_percent,
        cast(tax_rate.rate_percent * 10000 as bigint) as rate_units,
        1000000
        + case
            when tax_rate.computed_on = 'net' then cast(tax_rate.rate_percent * 10000 as bigint)
            else 0
        end as whole_units,
        row_number() over (
            partition by billing_cycle.cycle_id, tax_rate.tax_class
            order by tax_rate.valid_from desc
        ) as recency
    from billing_cycle
    inner join tax_rate
        on tax_rate.valid_from <= cast({{ civil_time('billing_cycle.starts_at') }} as date)

),

keyed as (

    select
        part.*,
        coalesce(bill_item_kind.tax_class, 'basic') as tax_class,
        rate_by_date.rate_percent,
        rate_by_date.rate_units,
        rate_by_date.whole_units,
        case item_kind
            when 'charge' then {{ hash_key([
                'account_id', 'subscription_id', 'part.cycle_id', 'part.bill_item_code',
            ]) }}
            else {{ hash_key([
                'account_id', 'subscription_id', 'part.cycle_id', 'part.bill_item_code',
                'item_kind', 'discount_id', 'other_account_id',
            ]) }}
        end as bill_item_key
    from part
    left join bill_item_kind
        on part.bill_item_code = bill_item_kind.bill_item_code
    inner join rate_by_date
        on part.cycle_id = rate_by_date.cycle_id
        and coalesce(bill_item_kind.tax_class, 'basic') = rate_by_date.tax_class
        and rate_by_date.recency = 1

),

-- What the tax follows from, without the rest of a part: it has to be put in order. What costs nothing
-- bears none.
taxable as (

    select
        bill_item_key,
        account_id,
        cycle_id,
        tax_class,
        whole_units,
        cast(amount_fen as decimal(38, 0)) * rate_units as tax_numerator
    from keyed
    where amount_fen <> 0

),

summed as (

    select
        taxable.*,
        sum(tax_numerator) over (partition by account_id, cycle_id, tax_class) as total_numerator
    from taxable

),

taxed as (

    select
        bill_item_key,
        {{ apportioned(
            round_signed('total_numerator', 'whole_units'),
            numerator='tax_numerator', denominator='whole_units',
            among=['account_id', 'cycle_id', 'tax_class'], ordered_by='bill_item_key',
        ) }} as tax_fen
    from summed

),

final as (

    select
        keyed.bill_item_key,
        keyed.cycle_id || '-' || keyed.account_id as bill_id,
        keyed.account_id,
        keyed.customer_id,
        keyed.subscription_id,
        keyed.cycle_id,
        keyed.province_code,
        keyed.offering_id,
        keyed.bill_item_code,
        keyed.item_kind,
        keyed.discount_id,
        keyed.discount_name_zh,
        keyed.discount_name_en,
        keyed.other_account_id,
        keyed.quantity,
        keyed.unit,
        keyed.charge_amount,
        {{ from_fen('keyed.base_fen') }} as base_amount,
        {{ from_fen('keyed.amount_fen') }} as amount,
        keyed.tax_class,
        cast(keyed.rate_percent as decimal(9, 4)) as tax_rate_percent,
        {{ from_fen('coalesce(taxed.tax_fen, 0)') }} as tax_amount,
        {{ from_fen('keyed.amount_fen - coalesce(taxed.tax_fen, 0)') }} as net_amount,
        keyed.currency_code
    from keyed
    left join taxed
        on keyed.bill_item_key = taxed.bill_item_key

)

select * from final
