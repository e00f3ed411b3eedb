{# The checks that rules can be made for, in the order in which they are made: the first that a
   record breaks is its reason. What each one means stands in model `mediation__record`. #}
{% macro validation_rules() -%}
    {{ return([
        'not_rated', 'unknown_service', 'invalid_msisdn', 'invalid_identity', 'invalid_time',
        'too_old', 'invalid_duration', 'invalid_volume', 'invalid_other_party', 'missing_imsi',
        'missing_cell', 'missing_plmn', 'test_number', 'emergency', 'unanswered',
        'rated_elsewhere',
    ]) }}
{%- endmacro %}
