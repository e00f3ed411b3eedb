{# Rows of which these columns say the same. Argument `only`: of a table of which a run replaces some rows,
   those alone, where they are what it `guided` or `rated`. #}
{% test unique_combination(model, columns, only=none) %}
    select {{ columns | join(', ') }}, count(*) as row_count
    {%- if only == 'rated' %}
    from ({{ usage_to_rate(model) }}) as rated
    {%- else %}
    from {{ model }}
    {%- endif %}
    {%- if only == 'guided' %}
    -- depends_on: {{ ref('billing__guiding_change') }}
    where {{ rows_guided_anew() }}
    {%- endif %}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}
