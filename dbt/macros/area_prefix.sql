{# The first digits of a Chinese number in E.164 digits, by which model `ods__number_area` tells its area:
   seven of a mobile number, the area code of a fixed line; null of other numbers. Area codes have two
   digits where they begin with 1 or 2, else three. #}
{% macro area_prefix(number) -%}
    case
        when substr({{ number }}, 1, 2) <> '86' then null
        when {{ is_mobile_number(number) }} then substr({{ number }}, 3, 7)
        when substr({{ number }}, 3, 1) in ('1', '2') then substr({{ number }}, 3, 2)
        else substr({{ number }}, 3, 3)
    end
{%- endmacro %}

{# Whether a Chinese number in E.164 digits is a mobile one. #}
{% macro is_mobile_number(number) -%}
    substr({{ number }}, 3, 2) between '13' and '19'
{%- endmacro %}
