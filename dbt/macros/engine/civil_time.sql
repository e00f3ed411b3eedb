{# The civil (local) timestamp of a UTC timestamp in the project's time zone.
   Argument: an expression of type timestamp, in UTC. Result: timestamp. #}
{% macro civil_time(utc) -%}
    {{ return(adapter.dispatch('civil_time', 'tollhouse')(utc)) }}
{%- endmacro %}

{% macro default__civil_time(utc) -%}
    timezone('{{ var("timezone") }}', timezone('UTC', {{ utc }}))
{%- endmacro %}

{% macro spark__civil_time(utc) -%}
    from_utc_timestamp({{ utc }}, '{{ var("timezone") }}')
{%- endmacro %}
