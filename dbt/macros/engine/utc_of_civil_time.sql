{# The UTC timestamp of a civil (local) one, in the time zone that an expression names. #}
{% macro utc_of_civil_time(civil, zone) -%}
    {{ return(adapter.dispatch('utc_of_civil_time', 'tollhouse')(civil, zone)) }}
{%- endmacro %}

{% macro default__utc_of_civil_time(civil, zone) -%}
    timezone('UTC', timezone({{ zone }}, {{ civil }}))
{%- endmacro %}

{% macro spark__utc_of_civil_time(civil, zone) -%}
    to_utc_timestamp({{ civil }}, {{ zone }})
{%- endmacro %}
