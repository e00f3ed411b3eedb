{{ config(post_hook="{{ forget_guiding_changes() }}") }}

-- Grain: one thing of `billing.guiding_fact` that is not, or no more, as it was when usage was last
-- guided (kind, name, line_key). Of a number all its lines, former ones too.
{%- set guided_fact = if_built('guided_fact') %}
with

guiding_fact as (

    select kind, name, line_key, digest from {{ ref('billing__guiding_fact') }}

),

guided_fact as (

    {%- if guided_fact %}
    select kind, name, line_key, digest from {{ guided_fact }}
    {%- else %}
    select * from guiding_fact where 1 = 0
    {%- endif %}

),

changed as (

    select kind, name from (select * from guiding_fact except select * from guided_fact) as newer
    union
    select kind, name from (select * from guided_fact except select * from guiding_fact) as older

),

final as (

    select told.kind, told.name, told.line_key
    from (
        select kind, name, line_key from guiding_fact
        union
        select kind, name, line_key from guided_fact
    ) as told
    inner join changed
        on told.kind = changed.kind
        and told.name = changed.name

)

select * from final
