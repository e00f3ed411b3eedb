{# A whole number that tells texts apart, the same on every engine: the first 60 bits of the text's MD5.
   The sum of those of some rows tells whether one of them changed, whatever their order. #}
{% macro number_of(text) -%}
    {{ return(adapter.dispatch('number_of', 'tollhouse')(text)) }}
{%- endmacro %}

{% macro default__number_of(text) -%}
    cast(cast('x' || substr(md5({{ text }}), 1, 15) as bit(60)) as bigint)
{%- endmacro %}

{% macro duckdb__number_of(text) -%}
    cast('0x' || substr(md5({{ text }}), 1, 15) as bigint)
{%- endmacro %}

{% macro spark__number_of(text) -%}
    cast(conv(substr(md5({{ text }}), 1, 15), 16, 10) as decimal(38, 0))
{%- endmacro %}
