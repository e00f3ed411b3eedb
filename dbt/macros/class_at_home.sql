{# The charge class of a usage, told more closely by where its owner is at home: data in the home
   province and outside it, calls made and taken while roaming in another province. A plan without a
   price of its own for these takes the price of the general class.
   Arguments: the general class; the roaming class (home, domestic, international). #}
{% macro class_at_home(charge_class, roaming_class) -%}
    case
        when {{ charge_class }} = 'data_domestic' and {{ roaming_class }} = 'home' then 'data_home'
        when {{ roaming_class }} <> 'domestic' then {{ charge_class }}
        when {{ charge_class }} = 'data_domestic' then 'data_domestic_roaming'
        when {{ charge_class }} = 'voice_domestic' then 'voice_domestic_roaming'
        when {{ charge_class }} = 'voice_incoming' then 'voice_incoming_roaming'
        else {{ charge_class }}
    end
{%- endmacro %}
