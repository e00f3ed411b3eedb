-- Grain: one source and day of arrival, in civil time (source_id, file_date).
-- What the source delivered, what became of it, and how long that took.
{%- set spans = ['delay', 'collection', 'landing', 'mediation'] %}
with

fct_file as (

    select * from {{ ref('mid__fct_file') }}

),

timed as (

    select
        fct_file.*,
        cast({{ civil_time('received_at') }} as date) as file_date,
        {{ seconds_between('created_at_source', 'received_at') }} as delay_seconds,
        {{ seconds_between('received_at', 'collected_at') }} as collection_seconds,
        {{ seconds_between('received_at', 'landed_at') }} as landing_seconds,
        {{ seconds_between('received_at', 'mediated_at') }} as mediation_seconds
    from fct_file

),

counted as (

    select
        source_id,
        province_code,
        file_date,
        count(*) as file_count,
        sum(case when status = 'duplicate' then 1 else 0 end) as duplicate_file_count,
        sum(case when status = 'rejected' then 1 else 0 end) as rejected_file_count,
        sum(case when is_late then 1 else 0 end) as late_file_count,
        sum(size_bytes) as byte_count,
        {%- for measure in [
            'raw', 'standard', 'merged', 'duplicate', 'rejected', 'filtered', 'waiting', 'warned'
        ] %}
        coalesce(sum({{ measure }}_count), 0) as {{ measure }}_count,
        {%- endfor %}
        {%- for span in spans %}
        sum({{ span }}_seconds) as {{ span }}_seconds,
        count({{ span }}_seconds) as {{ span }}_file_count,
        {%- endfor %}
        coalesce(
            sum(case when processing_microseconds is not null then decoded_record_count end), 0
        ) as processed_count,
        coalesce(sum(processing_microseconds), 0) as processing_microseconds
    from timed
    group by source_id, province_code, file_date

),

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(file_date as date) as file_date,
        cast(file_count as bigint) as file_count,
        cast(duplicate_file_count as bigint) as duplicate_file_count,
        cast(rejected_file_count as bigint) as rejected_file_count,
        cast(late_file_count as bigint) as late_file_count,
        cast(byte_count as bigint) as byte_count,
        cast(raw_count as bigint) as record_count,
        cast(standard_count as bigint) as standard_count,
        cast(merged_count as bigint) as merged_count,
        cast(duplicate_count as bigint) as duplicate_count,
        cast(rejected_count as bigint) as rejected_count,
        cast(filtered_count as bigint) as filtered_count,
        cast(waiting_count as bigint) as waiting_count,
        cast(warned_count as bigint) as warned_count,
        {%- for span in spans %}
        cast(
            case
                when {{ span }}_file_count > 0
                    then {{ integer_divide(
                        'greatest(' ~ span ~ '_seconds, 0)', span ~ '_file_count'
                    ) }}
            end as bigint
        ) as mean_{{ span }}_seconds,
        {%- endfor %}
        cast(processed_count as bigint) as processed_count,
        {{ from_micro('processing_microseconds') }} as processing_seconds,
        cast(
            {{ ratio('processed_count * 1000000', 'processing_microseconds', 1) }}
            as decimal(18, 1)
        ) as records_per_second
    from counted

)

select * from final
