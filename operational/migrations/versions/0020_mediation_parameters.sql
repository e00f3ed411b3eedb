-- What was the same for all sources, and of no version, and is a source's now: how long an identity of
-- calls is known, and how long missing parts are waited for. A file keeps what was in force when it was
-- landed; those that are there were landed by these.
alter table control.source
    add column duplicate_window_days integer not null default 90 check (duplicate_window_days > 0),
    add column long_call_timeout_hours integer not null default 48
        check (long_call_timeout_hours > 0);
alter table control.usage_file
    add column duplicate_window_days integer not null default 90 check (duplicate_window_days > 0),
    add column long_call_timeout_hours integer not null default 48
        check (long_call_timeout_hours > 0);

-- Which digits test numbers begin with, a setting till now, is the limit of the rule. All versions went
-- by the setting, so all get it: records are judged by the version of their time.
alter table control.validation_rule disable trigger a_guard;
update control.validation_rule set limit_value = 8617090000
where rule_code = 'test_number' and limit_value is null;
alter table control.validation_rule enable trigger a_guard;

-- Numbers of files that begin anew: after a last one, or every day.
alter table control.source
    add column sequence_first integer check (sequence_first >= 0),
    add column sequence_last integer check (sequence_last > sequence_first),
    add column sequence_restarts text not null default 'never'
        check (sequence_restarts in ('never', 'daily')),
    add constraint a_sequence_has_both_ends
        check ((sequence_first is null) = (sequence_last is null));
alter table control.usage_file add column sequence_date date;
alter table control.file_alarm add column sequence_date date;

-- Why a file is as it is: a code with its values, which everybody reads in his language. What was said
-- before stays as it was said.
alter table control.usage_file
    add column status_reason_code text,
    add column status_reason_values jsonb not null default '{}';
update control.usage_file set
    status_reason_code = 'told', status_reason_values = jsonb_build_object('text', status_reason)
where status_reason is not null;
alter table control.usage_file drop column status_reason;

-- Alarms that nothing would ever clear are settled by somebody, with the reason.
alter table control.file_alarm
    add column settled_by text check (settled_by <> ''),
    add column settled_reason text check (settled_reason <> ''),
    add constraint who_settles_says_why check (
        (settled_by is null) = (settled_reason is null)
        and (settled_by is null or cleared_at is not null)
    );

-- What becomes of files where they are delivered, once they are taken in.
alter table control.source add column after_collection text not null default 'keep'
    check (after_collection in ('keep', 'delete', 'move'));
