-- Grain: one source and service in one time without a change of the rules
-- (source_id, service, valid_from).
-- For every rule its limit and what breaking it means. The most specific rule counts: one for this
-- source and service, else for the source, else for the service, else for all. Service 'other' is any
-- service that is not known.
{%- set services = ['voice', 'sms', 'mms', 'data', 'vas', 'other'] %}
with

validation_rule as (

    select * from {{ ref('ods__validation_rule') }}

),

source as (

    select * from {{ ref('ods__source') }}

),

service as (

    {% for service in services -%}
        select cast('{{ service }}' as {{ dbt.type_string() }}) as service
        {%- if not loop.last %}
        union all
        {% endif %}
    {%- endfor %}

),

era as (

    select
        valid_from as begun_at,
        case
            when row_number() over (order by valid_from) = 1
                then cast('1900-01-01 00:00:00' as timestamp)
            else valid_from
        end as valid_from,
        coalesce(lead(valid_from) over (order by valid_from), {{ end_of_time() }}) as valid_to
    from validation_rule
    group by valid_from

),

applicable as (

    select
        source.source_id,
        service.service,
        era.valid_from,
        era.valid_to,
        validation_rule.rule_code,
        validation_rule.limit_value,
        validation_rule.severity,
        row_number() over (
            partition by
                source.source_id, service.service, era.valid_from, validation_rule.rule_code
            order by
                case when validation_rule.source_id is null then 1 else 0 end,
                case when validation_rule.service is null then 1 else 0 end,
                validation_rule.rule_id
        ) as specificity
    from era
    inner join validation_rule
        on era.begun_at >= validation_rule.valid_from
        and era.begun_at < validation_rule.valid_to
    inner join source
        on validation_rule.source_id = source.source_id
        or validation_rule.source_id is null
    inner join service
        on validation_rule.service = service.service
        or validation_rule.service is null

),

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(valid_from as timestamp) as valid_from,
        cast(valid_to as timestamp) as valid_to,
        {%- for rule in validation_rules() %}
        max(case when rule_code = '{{ rule }}' then limit_value end) as {{ rule }}_limit,
        bool_or(rule_code = '{{ rule }}' and severity = 'reject') as {{ rule }}_rejects,
        bool_or(rule_code = '{{ rule }}' and severity = 'filter') as {{ rule }}_filters,
        bool_or(rule_code = '{{ rule }}' and severity = 'warn') as {{ rule }}_warns
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
    from applicable
    where specificity = 1
    group by source_id, service, valid_from, valid_to

)

select * from final
