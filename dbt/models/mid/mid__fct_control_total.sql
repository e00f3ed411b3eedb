-- Grain: one hop and measure (hop_number, hop, measure).

{# Every tie: number of the hop, hop, measure, unit, then name and value of what went in
   and of what came out. Values are columns of the one-row totals below. #}
{%- set ties = [
    (1, 'collected files → raw 采集 → 原始', 'records 记录数', 'record',
        'decoded, by the journal 日志解码数',
        'file_total.decoded_count',
        'raw records 原始话单',
        'record_total.raw_count'),
    (2, 'raw → outcomes 原始 → 去向', 'records 记录数', 'record',
        'raw records 原始话单',
        'record_total.raw_count',
        'standard + merged + duplicate + rejected + filtered 标准+合并+重复+拒绝+过滤',
        'outcome_total.five_count'),
    (2, 'raw → outcomes 原始 → 去向', 'files 文件数', 'file',
        'mediated files, by the journal 日志中已预处理的文件',
        'file_total.file_count',
        'files whose five outcomes add up 五种去向相加相符的文件',
        'file_total.tied_count'),
    (3, 'outcomes → usage 去向 → 标准话单', 'records 记录数', 'record',
        'standard records 标准记录',
        'outcome_total.standard_count',
        'usage (pieces split at midnight once) 标准话单（跨日拆分计一次）',
        'usage_total.whole_count'),
    (4, 'long calls merged 长话单合并', 'voice seconds 通话秒数', 'second',
        'standard and merged records 标准与合并记录',
        'record_total.voice_seconds',
        'usage 标准话单',
        'usage_total.voice_seconds'),
    (4, 'long calls merged 长话单合并', 'octets 流量字节数', 'octet',
        'standard and merged records 标准与合并记录',
        'record_total.data_octets',
        'usage 标准话单',
        'usage_total.data_octets'),
    (5, 'usage → guided 话单 → 归属', 'usages 话单数', 'usage',
        'usage 标准话单',
        'usage_total.usage_count',
        'guided + suspended 已归属+挂起',
        'guided_total.usage_count + suspended_total.usage_count'),
    (5, 'usage → guided 话单 → 归属', 'voice seconds 通话秒数', 'second',
        'usage 标准话单',
        'usage_total.voice_seconds',
        'guided + suspended 已归属+挂起',
        'guided_total.voice_seconds + suspended_total.voice_seconds'),
    (5, 'usage → guided 话单 → 归属', 'octets 流量字节数', 'octet',
        'usage 标准话单',
        'usage_total.data_octets',
        'guided + suspended 已归属+挂起',
        'guided_total.data_octets + suspended_total.data_octets'),
    (6, 'guided → rated 归属 → 批价', 'usages 话单数', 'usage',
        'guided usage 已归属话单',
        'guided_total.usage_count',
        'rated usage 已批价话单',
        'charge_total.usage_count'),
    (7, 'charges → bill items 费用 → 帐单科目', 'exact amount 未舍入金额', 'CNY',
        'charges 费用',
        'charge_total.amount',
        'bill items before rounding 帐单科目（舍入前）',
        'bill_item_total.charge_amount'),
    (8, 'bill items rounded 帐单科目舍入', 'amount 金额', 'CNY',
        'charges + rounding residues 费用+舍入差额',
        'charge_total.amount + bill_item_total.residue_amount',
        'charged items 费用科目',
        'bill_item_total.charged_amount'),
    (9, 'charged items → bill items 费用科目 → 帐单科目', 'amount 金额', 'CNY',
        'charged + made up − discounts + shares 费用+低消补足−优惠±代付',
        'bill_item_total.charged_amount + bill_total.minimum_amount - bill_total.discount_amount'
        ~ ' + bill_total.shared_amount',
        'bill items 帐单科目',
        'bill_item_total.amount'),
    (9, 'charged items → bill items 费用科目 → 帐单科目', 'paid for others 代付金额', 'CNY',
        'on the bills of payers 付款方帐单',
        'bill_item_total.payer_amount',
        'off the bills of members 成员帐单',
        'bill_item_total.member_amount'),
    (9, 'bill items → tax 帐单科目 → 税', 'amount 金额', 'CNY',
        'bill items 帐单科目',
        'bill_item_total.amount',
        'net + tax 不含税金额+税',
        'bill_item_total.net_amount + bill_total.tax_amount'),
    (9, 'bill items → bills 帐单科目 → 帐单', 'amount 金额', 'CNY',
        'bill items 帐单科目',
        'bill_item_total.amount',
        'charges of the bills 帐单费用',
        'bill_total.charge_amount'),
    (9, 'bill items → bills 帐单科目 → 帐单', 'bills 帐单数', 'bill',
        'bills 帐单',
        'bill_total.bill_count',
        'bills whose items add up 科目相加相符的帐单',
        'bill_total.itemised_count'),
    (10, 'balances of the bills 帐单余额', 'amount 金额', 'CNY',
        'opening + charges + adjustments − payments 期初+费用+调整−缴费',
        'bill_total.balance_amount',
        'closing 期末',
        'bill_total.closing_amount'),
    (10, 'balances of the bills 帐单余额', 'bills 帐单数', 'bill',
        'bills 帐单',
        'bill_total.bill_count',
        'bills that add up 余额相符的帐单',
        'bill_total.balanced_count'),
    (10, 'prepaid charges → deductions 预付费用 → 扣费', 'amount 金额', 'CNY',
        'prepaid charges of cycles cut off 已截止帐期的预付费用',
        'prepaid_total.amount',
        'deductions 扣费',
        'deduction_total.amount'),
    (11, 'bills → marts 帐单 → 集市', 'revenue 收入', 'CNY',
        'bill items 帐单科目',
        'bill_item_total.amount',
        'revenue mart + collected for others 收入集市+代收费',
        'revenue_total.amount + collected_total.amount'),
    (11, 'bills → marts 帐单 → 集市', 'revenue by subscription 用户收入', 'CNY',
        'bill items 帐单科目',
        'bill_item_total.amount',
        'subscription months + collected for others 用户月+代收费',
        'month_total.charge_amount + collected_total.amount'),
    (11, 'bills → marts 帐单 → 集市', 'revenue KPI 收入指标', 'CNY',
        'bill items 帐单科目',
        'bill_item_total.amount',
        'national sum + collected for others 全国合计+代收费',
        'nation_total.revenue_amount + collected_total.amount'),
    (11, 'usage → marts 话单 → 集市', 'voice seconds 通话秒数', 'second',
        'guided usage 已归属话单',
        'guided_total.voice_seconds',
        'subscription days 用户日',
        'day_total.voice_seconds'),
    (11, 'usage → marts 话单 → 集市', 'octets 流量字节数', 'octet',
        'guided usage 已归属话单',
        'guided_total.data_octets',
        'subscription days 用户日',
        'day_total.data_octets'),
    (11, 'usage → marts 话单 → 集市', 'usages 话单数', 'usage',
        'guided usage 已归属话单',
        'guided_total.usage_count',
        'subscription days 用户日',
        'day_total.usage_count'),
    (12, 'calls → settlement 话单 → 结算', 'calls over trunk groups 经中继的通话', 'usage',
        'voice usage over trunk groups 经中继的语音话单',
        'usage_total.trunk_count',
        'settled + unsettled 已结算+未结算',
        'entry_total.usage_count + unsettled_total.usage_count'),
    (12, 'entries → statements 明细 → 结算单', 'payable 应付', 'CNY',
        'entries + rounding residues 明细+舍入差额',
        'entry_total.payable + statement_total.payable_residue',
        'statements 结算单',
        'statement_total.payable'),
    (12, 'entries → statements 明细 → 结算单', 'receivable 应收', 'CNY',
        'entries + rounding residues 明细+舍入差额',
        'entry_total.receivable + statement_total.receivable_residue',
        'statements 结算单',
        'statement_total.receivable'),
    (12, 'entries → statements 明细 → 结算单', 'statements 结算单数', 'statement',
        'agreements, cycles, directions and provinces with entries 有明细的协议·帐期·方向·省分',
        'accumulated_total.group_count',
        'statements equal to their entries within half a fen 与明细相差不过半分的结算单',
        'accumulated_total.tied_count'),
] %}

with

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status = 'mediated'

),

file_balance as (

    select * from {{ ref('mediation__file_balance') }}

),

record_outcome as (

    select * from {{ ref('mediation__record_outcome') }}

),

usage as (

    select * from {{ ref('mediation__usage') }}

),

guided_usage as (

    select * from {{ ref('billing__guided_usage') }}

),

suspended_usage as (

    select * from {{ ref('billing__suspended_usage') }}

),

charge as (

    select * from {{ ref('billing__charge') }}

),

bill_item as (

    select * from {{ ref('billing__bill_item') }}

),

dim_bill_item as (

    select * from {{ ref('mid__dim_bill_item') }}

),

bill as (

    select * from {{ ref('billing__bill') }}

),

bill_movement as (

    select * from {{ ref('billing__bill_movement') }}

),

prepaid_charge as (

    select * from {{ ref('billing__prepaid_charge') }}

),

deduction as (

    select * from {{ ref('ods__deduction') }}

),

-- While a cycle is open, deductions follow its charges some minutes later.
cycle_cut_off as (

    select cycle_id from {{ ref('ods__billing_cycle') }}
    where state <> 'open'

),

interconnect_entry as (

    select * from {{ ref('settlement__interconnect_entry') }}

),

unsettled_usage as (

    select * from {{ ref('settlement__unsettled_usage') }}

),

statement as (

    select * from {{ ref('settlement__statement') }}

),

fct_record_outcome_summary as (

    select * from {{ ref('mid__fct_record_outcome_summary') }}

),

fct_bill_item as (

    select * from {{ ref('mid__fct_bill_item') }}

),

fct_subscription_day as (

    select * from {{ ref('mid__fct_subscription_day') }}

),

fct_subscription_month as (

    select * from {{ ref('mid__fct_subscription_month') }}

),

fct_province_month as (

    select * from {{ ref('mid__fct_province_month') }}

),

used_record as (

    select
        record_outcome.*,
        outcome = 'standard' or (outcome = 'merged' and reason_code is null) as is_used
    from record_outcome

),

record_total as (

    select
        count(*) as raw_count,
        coalesce(
            sum(duration_seconds) filter (where is_used and service = 'voice'), 0
        ) as voice_seconds,
        coalesce(
            sum(uplink_octets + downlink_octets) filter (where is_used and service = 'data'), 0
        ) as data_octets
    from used_record

),

item_sum as (

    select
        bill_id,
        sum(amount) as summed_amount,
        sum(case when item_kind = 'minimum' then amount else 0 end) as minimum_amount
    from bill_item
    group by bill_id

),

movement_sum as (

    select
        bill_id,
        sum(case when payment_id is null then amount else 0 end) as adjustment_sum,
        sum(case when payment_id is not null then amount else 0 end) as payment_sum
    from bill_movement
    group by bill_id

),

itemised_bill as (

    select
        bill.*,
        coalesce(item_sum.summed_amount, 0) as summed_amount,
        coalesce(item_sum.minimum_amount, 0) as minimum_amount,
        coalesce(movement_sum.adjustment_sum, 0) as adjustment_sum,
        coalesce(movement_sum.payment_sum, 0) as payment_sum
    from bill
    left join item_sum
        on bill.bill_id = item_sum.bill_id
    left join movement_sum
        on bill.bill_id = movement_sum.bill_id

),

accumulated as (

    select
        agreement_id,
        cycle_id,
        direction,
        province_code,
        sum(amount) as entry_amount
    from interconnect_entry
    group by agreement_id, cycle_id, direction, province_code

),

compared as (

    select
        accumulated.entry_amount,
        statement.amount
    from accumulated
    left join statement
        on accumulated.agreement_id = statement.agreement_id
        and accumulated.cycle_id = statement.cycle_id
        and accumulated.direction = statement.direction
        and accumulated.province_code = statement.province_code

),

-- What the journal says of the files that count: not what mediation made of it.
file_total as (

    select
        count(*) as file_count,
        coalesce(sum(usage_file.decoded_record_count), 0) as decoded_count,
        count(*) filter (
            where file_balance.raw_count = usage_file.decoded_record_count
            and file_balance.raw_count = file_balance.standard_count + file_balance.merged_count
                + file_balance.duplicate_count + file_balance.rejected_count
                + file_balance.filtered_count
        ) as tied_count
    from usage_file
    left join file_balance
        on usage_file.file_id = file_balance.file_id

),

outcome_total as (

    select
        coalesce(
            sum(record_count) filter (where outcome = 'standard'), 0
        ) as standard_count,
        coalesce(
            sum(record_count) filter (
                where outcome in ('standard', 'merged', 'duplicate', 'rejected', 'filtered')
            ), 0
        ) as five_count
    from fct_record_outcome_summary

),

usage_total as (

    select
        count(*) as usage_count,
        count(*) filter (where not is_continued) as whole_count,
        coalesce(sum(duration_seconds) filter (where service = 'voice'), 0) as voice_seconds,
        coalesce(
            sum(uplink_octets + downlink_octets) filter (where service = 'data'), 0
        ) as data_octets,
        count(*) filter (
            where service = 'voice'
            and case direction when 'mt' then trunk_group_in else trunk_group_out end <> ''
        ) as trunk_count
    from usage

),

guided_total as (

    select
        count(*) as usage_count,
        coalesce(
            {{ integer_divide(
                "sum(quantity_micro) filter (where service = 'voice')", '1000000') }}, 0
        ) as voice_seconds,
        coalesce(
            {{ integer_divide(
                "sum(quantity_micro) filter (where service = 'data')", '1000000') }}, 0
        ) as data_octets
    from guided_usage

),

suspended_total as (

    select
        count(*) as usage_count,
        coalesce(
            {{ integer_divide(
                "sum(quantity_micro) filter (where service = 'voice')", '1000000') }}, 0
        ) as voice_seconds,
        coalesce(
            {{ integer_divide(
                "sum(quantity_micro) filter (where service = 'data')", '1000000') }}, 0
        ) as data_octets
    from suspended_usage

),

charge_total as (

    select
        count(distinct usage_id) as usage_count,
        coalesce(sum(amount), 0) as amount
    from charge

),

bill_item_total as (

    select
        coalesce(sum(charge_amount), 0) as charge_amount,
        coalesce(sum(amount), 0) as amount,
        coalesce(sum(net_amount), 0) as net_amount,
        coalesce(sum(amount) filter (where item_kind = 'charge'), 0) as charged_amount,
        coalesce(
            sum(amount - charge_amount) filter (where item_kind = 'charge'), 0
        ) as residue_amount,
        coalesce(
            sum(amount) filter (where item_kind = 'share' and amount > 0), 0
        ) as payer_amount,
        coalesce(
            -sum(amount) filter (where item_kind = 'share' and amount < 0), 0
        ) as member_amount
    from bill_item

),

bill_total as (

    select
        count(*) as bill_count,
        coalesce(sum(charge_amount), 0) as charge_amount,
        coalesce(sum(discount_amount), 0) as discount_amount,
        coalesce(sum(shared_amount), 0) as shared_amount,
        coalesce(sum(tax_amount), 0) as tax_amount,
        coalesce(sum(minimum_amount), 0) as minimum_amount,
        coalesce(sum(closing_amount), 0) as closing_amount,
        coalesce(sum(opening_amount + charge_amount + adjustment_amount - payment_amount), 0)
            as balance_amount,
        count(*) filter (
            where charge_amount = summed_amount
            and charge_amount = item_amount - discount_amount + shared_amount
        ) as itemised_count,
        count(*) filter (
            where opening_amount + charge_amount + adjustment_amount - payment_amount
                = closing_amount
            and adjustment_amount = adjustment_sum and payment_amount = payment_sum
        ) as balanced_count
    from itemised_bill

),

prepaid_total as (

    select
        coalesce(sum(amount), 0) as amount
    from prepaid_charge
    where cycle_id in (select cycle_id from cycle_cut_off)

),

deduction_total as (

    select
        coalesce(sum(amount), 0) as amount
    from deduction
    where cycle_id in (select cycle_id from cycle_cut_off)

),

revenue_total as (

    select
        coalesce(sum(amount), 0) as amount
    from fct_bill_item
    where is_revenue

),

collected_total as (

    select
        coalesce(sum(amount), 0) as amount
    from bill_item
    where bill_item_code in (select bill_item_code from dim_bill_item where not is_revenue)

),

month_total as (

    select
        coalesce(sum(charge_amount), 0) as charge_amount
    from fct_subscription_month

),

nation_total as (

    select
        coalesce(
            sum(revenue_amount) filter (where province_code = '00'), 0
        ) as revenue_amount
    from fct_province_month

),

day_total as (

    select
        coalesce(sum(usage_count), 0) as usage_count,
        coalesce(sum(voice_mo_seconds + voice_mt_seconds), 0) as voice_seconds,
        coalesce(sum(data_octets), 0) as data_octets
    from fct_subscription_day

),

entry_total as (

    select
        count(distinct usage_id) as usage_count,
        coalesce(sum(amount) filter (where direction = 'payable'), 0) as payable,
        coalesce(sum(amount) filter (where direction = 'receivable'), 0) as receivable
    from interconnect_entry

),

unsettled_total as (

    select
        count(*) as usage_count
    from unsettled_usage

),

statement_total as (

    select
        coalesce(sum(amount) filter (where direction = 'payable'), 0) as payable,
        coalesce(sum(amount) filter (where direction = 'receivable'), 0) as receivable,
        coalesce(
            sum(rounding_residue_amount) filter (where direction = 'payable'), 0
        ) as payable_residue,
        coalesce(
            sum(rounding_residue_amount) filter (where direction = 'receivable'), 0
        ) as receivable_residue
    from statement

),

accumulated_total as (

    select
        count(*) as group_count,
        count(*) filter (where amount - entry_amount between -0.005 and 0.005) as tied_count
    from compared

),

tie as (
{% for number, hop, measure, unit, left_name, left_value, right_name, right_value in ties %}
    select
        {{ number }} as hop_number,
        '{{ hop }}' as hop,
        '{{ measure }}' as measure,
        '{{ unit }}' as unit,
        '{{ left_name }}' as left_name,
        cast({{ left_value }} as decimal(38, 6)) as left_value,
        '{{ right_name }}' as right_name,
        cast({{ right_value }} as decimal(38, 6)) as right_value
    from {{ modules.re.findall('[a-z_]+_total', left_value ~ ' ' ~ right_value)
        | unique | join(' cross join ') }}
    {% if not loop.last %}union all{% endif %}
{% endfor %}
),

final as (

    select
        cast(hop_number as integer) as hop_number,
        cast(hop as {{ dbt.type_string() }}) as hop,
        cast(measure as {{ dbt.type_string() }}) as measure,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(left_name as {{ dbt.type_string() }}) as left_name,
        cast(left_value as decimal(38, 6)) as left_value,
        cast(right_name as {{ dbt.type_string() }}) as right_name,
        cast(right_value as decimal(38, 6)) as right_value,
        cast(left_value - right_value as decimal(38, 6)) as difference,
        cast(left_value = right_value as boolean) as is_tied
    from tie

)

select * from final
