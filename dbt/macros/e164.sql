{# The E.164 digits of a number as it was dialled or shown; null where it is no number.

   Understood: +… and 00… (international), 0 + area code (national), mobile numbers, 400 and 800
   numbers, numbers of 7 or 8 digits in the area of the exchange. What is dialled in front of them to
   choose a carrier, or put there by number portability (seed `number_prefix`), is left out before.
   Short codes, service numbers and message ports stay as they are; so does a number that already
   begins with its country code. The branches stand in the order of how often they are met, and
   compare whole texts, byte by byte, where that says how a number begins: it costs a fifth of
   cutting it.

   Arguments: expressions of the number without its prefix, of the country code and of the area code
   (null where local numbers are not dialled). #}
{% macro e164(number, country_code, area_code) -%}
    case
        when {{ number }} is null or not {{ matches(number, '[+]?[0-9]+') }} then null
        when length({{ number }}) > 11 and {{ byte_order(number) }} >= '1' then {{ number }}
        when
            length({{ number }}) = 11
            and {{ byte_order(number) }} >= '13' and {{ byte_order(number) }} < '2'
            then {{ country_code }} || {{ number }}
        when substr({{ number }}, 1, 1) = '+' then substr({{ number }}, 2)
        when substr({{ number }}, 1, 2) = '00' then substr({{ number }}, 3)
        when substr({{ number }}, 1, 1) = '0' then {{ country_code }} || substr({{ number }}, 2)
        when length({{ number }}) = 10 and substr({{ number }}, 1, 3) in ('400', '800')
            then {{ country_code }} || {{ number }}
        when
            length({{ number }}) in (7, 8) and substr({{ number }}, 1, 1) between '2' and '8'
            and {{ area_code }} is not null
            then {{ country_code }} || {{ area_code }} || {{ number }}
        else {{ number }}
    end
{%- endmacro %}

{# Whether a number, which must be one, is a short code, a service number or a message port and none
   that can be reached from abroad. Arguments as for `e164`. #}
{% macro is_short_code(number, area_code) -%}
    case
        when
            length({{ number }}) = 11
            and {{ byte_order(number) }} >= '13' and {{ byte_order(number) }} < '2'
            then false
        when {{ byte_order(number) }} < '1' then false
        when
            length({{ number }}) in (7, 8) and substr({{ number }}, 1, 1) between '2' and '8'
            and {{ area_code }} is not null
            then false
        when length({{ number }}) <= 8 then true
        else coalesce(
            {{ byte_order(number) }} >= '10' and {{ byte_order(number) }} < '13'
            or {{ byte_order(number) }} >= '95' and {{ byte_order(number) }} < '97', false
        )
    end
{%- endmacro %}
