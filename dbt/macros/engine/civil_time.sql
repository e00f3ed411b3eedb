{# The civil (local) timestamp of a UTC timestamp.
   Arguments: an expression of type timestamp, in UTC; an expression that names the time zone (IANA),
   by default the project's. Result: timestamp. #}
{% macro civil_time(utc, zone=none) -%}
    {{ return(adapter.dispatch('civil_time', 'tollhouse')(utc, zone or project_zone())) }}
{%- endmacro %}

{% macro default__civil_time(utc, zone) -%}
    timezone({{ zone }}, timezone('UTC', {{ utc }}))
{%- endmacro %}

{% macro spark__civil_time(utc, zone) -%}
    from_utc_timestamp({{ utc }}, {{ zone }})
{%- endmacro %}

{# The project's time zone as an expression. #}
{% macro project_zone() -%}
    '{{ var("timezone") }}'
{%- endmacro %}
