{# The charge class of a usage, told more closely by where its owner is at home: data in the home
   province and outside it, calls made and taken while roaming in another province; of calls made at
   home, to a friend number, to a member of the group, inside the area or to another; and calls of a
   fixed line. Whom a call goes to is told together with how far. A plan without a price of its own for
   these takes that of the nearest class it may take it of (`billing__class_ancestor`).
   A call is made in the area of the exchange or, where that serves many, in the line's own.
   Argument: the name of a relation with the columns charge_class, roaming_class (home, domestic,
   international), is_fixed_line, is_friend, is_group, home_area_code, serving_area_code and
   other_area_code (null where not known). #}
{% macro class_at_home(usage) -%}
    case
        when {{ usage }}.charge_class = 'data_domestic' and {{ usage }}.roaming_class = 'home'
            then 'data_home'
        when {{ usage }}.roaming_class = 'international' then {{ usage }}.charge_class
        when {{ usage }}.roaming_class = 'domestic' then
            case {{ usage }}.charge_class
                when 'data_domestic' then 'data_domestic_roaming'
                when 'voice_domestic' then 'voice_domestic_roaming'
                when 'voice_incoming' then 'voice_incoming_roaming'
                else {{ usage }}.charge_class
            end
        when {{ usage }}.charge_class = 'voice_domestic' then
            coalesce(
                case when {{ usage }}.is_fixed_line then 'fixed_' else 'voice_' end
                || case
                    when {{ usage }}.is_friend then 'friend_'
                    when {{ usage }}.is_group then 'group_'
                    else ''
                end
                || case
                    when {{ usage }}.other_area_code
                        = coalesce({{ usage }}.serving_area_code, {{ usage }}.home_area_code)
                        then 'local'
                    when {{ usage }}.other_area_code
                        <> coalesce({{ usage }}.serving_area_code, {{ usage }}.home_area_code)
                        then 'long_distance'
                end,
                case
                    when {{ usage }}.is_friend then 'voice_friend'
                    when {{ usage }}.is_group then 'voice_group'
                    else {{ usage }}.charge_class
                end
            )
        when {{ usage }}.is_fixed_line
            and substr({{ usage }}.charge_class, 1, 20) = 'voice_international_'
            then 'fixed' || substr({{ usage }}.charge_class, 6)
        else {{ usage }}.charge_class
    end
{%- endmacro %}
