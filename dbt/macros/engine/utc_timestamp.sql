{# A timestamp with time zone as a plain timestamp in UTC. #}
{% macro utc_timestamp(instant) -%}
    {{ return(adapter.dispatch('utc_timestamp', 'tollhouse')(instant)) }}
{%- endmacro %}

{% macro default__utc_timestamp(instant) -%}
    cast(timezone('UTC', {{ instant }}) as timestamp)
{%- endmacro %}

{% macro spark__utc_timestamp(instant) -%}
    to_utc_timestamp({{ instant }}, current_timezone())
{%- endmacro %}
