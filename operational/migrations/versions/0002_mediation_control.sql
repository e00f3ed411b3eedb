-- Control of mediation: which file was mediated when, by which rules, what people corrected, what
-- was rolled back, what is missing. Rules that must hold whoever writes stand here.

-- control.usage_file: how often what a file says has changed -------------------------------------

-- Raised by one when the file is landed, landed again, corrected or rolled back; a mediation run
-- has taken the file as it is when it took it in this revision.
alter table control.usage_file add column revision integer not null default 0 check (revision >= 0);
update control.usage_file set revision = 1 where status in ('landed', 'mediated', 'rolled_back');

-- control.source: what is known of a source, and every former state of it ------------------------

alter table control.source
    add column name_zh text,
    add column name_en text,
    add column location text,
    add column timezone text not null default 'Asia/Shanghai',
    add column country_code text not null default '86' check (country_code ~ '^[1-9][0-9]{0,2}$'),
    add column area_code text check (area_code ~ '^[0-9]{1,5}$'),
    add column expected_every_minutes integer check (expected_every_minutes > 0),
    add column split_at_midnight boolean not null default false;
-- The name was "<Chinese> <English>".
update control.source set
    name_zh = split_part(name, ' ', 1),
    name_en = coalesce(nullif(substr(name, length(split_part(name, ' ', 1)) + 2), ''), name);
alter table control.source
    alter column name_zh set not null, alter column name_en set not null, drop column name;

create table control.source_version (
    source_id text not null references control.source,
    version integer not null check (version >= 1),
    content jsonb not null,
    changed_at timestamptz not null default clock_timestamp(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (source_id, version)
);

create function control.keep_source_version() returns trigger language plpgsql as $$
declare
    latest record;
    content_now jsonb := to_jsonb(new) - 'created_at' - 'updated_at';
begin
    select ver.version, ver.content into latest from control.source_version as ver
    where ver.source_id = new.source_id
    order by ver.version desc limit 1;
    if latest.content is distinct from content_now then
        insert into control.source_version (source_id, version, content)
        values (new.source_id, coalesce(latest.version, 0) + 1, content_now);
    end if;
    return null;
end $$;

create trigger keep_source_version after insert or update on control.source
    for each row execute function control.keep_source_version();
update control.source set source_id = source_id; -- the first version of those that are there
create trigger append_only before update or delete or truncate on control.source_version
    for each statement execute function control.refuse_change();

-- Which mediation run took which file, in which revision -----------------------------------------

create table control.mediation_work (
    batch_id text not null,
    file_id text not null,
    revision integer not null,
    is_again boolean not null, -- a run took the file up before: there may be rows of it
    is_changed boolean not null, -- and since then it was corrected, landed anew or rolled back
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (batch_id, file_id)
);
create index mediation_work_file on control.mediation_work (file_id, revision);

-- Rejected records, as mediation last judged them ------------------------------------------------

create table control.rejected_record (
    file_id text not null,
    record_number integer not null,
    record_format text,
    source_id text not null,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    reason_code text not null,
    severity text,
    decode_detail text,
    raw_record text,
    received_at timestamptz not null,
    byte_offset bigint,
    byte_length integer,
    -- open = waits for somebody; corrected = waits for the next mediation run.
    status text not null default 'open' check (status in ('open', 'corrected')),
    -- The fields that can be corrected, as they were judged.
    service text,
    direction text,
    served_msisdn text,
    served_imsi text,
    other_party text,
    started_local text,
    utc_offset_minutes text,
    duration_seconds text,
    uplink_octets text,
    downlink_octets text,
    serving_plmn text,
    call_reference text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (file_id, record_number)
);
create index rejected_record_reason on control.rejected_record (reason_code, received_at);
create index rejected_record_source on control.rejected_record (source_id, received_at);

-- Corrections: the latest row of a record counts; a row without overrides has it judged again -----

create table control.correction (
    correction_id text primary key,
    file_id text not null references control.usage_file,
    record_number integer not null check (record_number >= 1),
    action_id text not null, -- one for all records that a person corrected at once
    revision integer not null, -- of the file, from this correction on
    corrected_by text not null check (corrected_by <> ''),
    corrected_at timestamptz not null default clock_timestamp(),
    reason text not null check (reason <> ''),
    service text,
    direction text,
    served_msisdn text,
    served_imsi text,
    other_party text,
    started_local text check (started_local ~ '^[0-9]{14}$'),
    utc_offset_minutes text check (utc_offset_minutes ~ '^-?[0-9]{1,3}$'),
    duration_seconds text check (duration_seconds ~ '^[0-9]{1,18}$'),
    uplink_octets text check (uplink_octets ~ '^[0-9]{1,18}$'),
    downlink_octets text check (downlink_octets ~ '^[0-9]{1,18}$'),
    serving_plmn text,
    call_reference text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (action_id, file_id, record_number)
);
create index correction_record on control.correction (file_id, record_number, corrected_at);
create trigger append_only before update or delete or truncate on control.correction
    for each statement execute function control.refuse_change();

-- Validation rules: a change is a new version, and closes the one before --------------------------

create table control.validation_rule (
    rule_id text not null,
    version integer not null check (version >= 1),
    rule_code text not null check (rule_code ~ '^[a-z][a-z_]*$'),
    source_id text, -- null = every source
    service text check (service in ('voice', 'sms', 'mms', 'data', 'vas')), -- null = every service
    limit_value bigint check (limit_value >= 0),
    severity text not null check (severity in ('reject', 'filter', 'warn', 'off')),
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to > valid_from),
    changed_by text not null,
    change_reason text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (rule_id, version),
    -- The id says what the rule is about, so that two rules are never about the same.
    constraint rule_id_names_its_scope check (
        rule_id = rule_code || coalesce('@' || source_id, '') || coalesce('/' || service, '')
    )
);
create unique index validation_rule_in_force on control.validation_rule (rule_id)
    where valid_to is null;

create function control.guard_validation_rule() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'rule % version % stays: close it with valid_to', old.rule_id, old.version
            using errcode = 'restrict_violation';
    end if;
    if old.valid_to is not null
        or to_jsonb(new) - 'valid_to' - 'updated_at' <> to_jsonb(old) - 'valid_to' - 'updated_at'
    then
        raise exception 'rule % version % is kept as it was: append a new version',
            old.rule_id, old.version
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before update or delete on control.validation_rule
    for each row execute function control.guard_validation_rule();
create trigger no_truncate before truncate on control.validation_rule
    for each statement execute function control.refuse_change();

-- Rollbacks: who took back which files, why, and what hung on them --------------------------------

create table control.rollback (
    rollback_id text primary key,
    scope text not null check (scope in ('file', 'batch')),
    target text not null,
    reason text not null check (reason <> ''),
    requested_by text not null check (requested_by <> ''),
    requested_at timestamptz not null default clock_timestamp(),
    completed_at timestamptz, -- null while the warehouse still shows what was taken back
    counts jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table control.rollback_file (
    rollback_id text not null references control.rollback,
    file_id text not null references control.usage_file,
    raw_records bigint not null,
    usage_records bigint not null,
    charges bigint not null,
    charge_amount numeric(18, 6) not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (rollback_id, file_id)
);
create index rollback_file_file on control.rollback_file (file_id);
create trigger append_only before update or delete or truncate on control.rollback_file
    for each statement execute function control.refuse_change();

create function control.guard_rollback() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'rollback % is a record of what was done: it stays', old.rollback_id
            using errcode = 'restrict_violation';
    end if;
    if old.completed_at is not null
        or to_jsonb(new) - array['completed_at', 'counts', 'updated_at']
            <> to_jsonb(old) - array['completed_at', 'counts', 'updated_at']
    then
        raise exception 'rollback % is a record of what was done: only its end is added',
            old.rollback_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before update or delete on control.rollback
    for each row execute function control.guard_rollback();
create trigger no_truncate before truncate on control.rollback
    for each statement execute function control.refuse_change();

-- Alarms about files: raised once while the cause is there, cleared when it is gone ---------------

create table control.file_alarm (
    alarm_id text primary key default gen_random_uuid()::text,
    source_id text not null,
    kind text not null
        check (kind in ('late', 'missing', 'gap', 'out_of_order', 'quarantined')),
    detail text not null,
    sequence_number integer,
    file_id text,
    raised_at timestamptz not null default clock_timestamp(),
    cleared_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index file_alarm_source on control.file_alarm (source_id, raised_at);
create index file_alarm_raised on control.file_alarm (source_id, kind) where cleared_at is null;

-- updated_at is maintained on the tables made here.
do $$
declare
    found record;
begin
    for found in
        select col.table_name from information_schema.columns as col
        where col.column_name = 'updated_at' and col.table_schema = 'control' and not exists (
            select 1 from pg_trigger as trg
            where trg.tgname = 'set_updated_at'
                and trg.tgrelid = format('control.%I', col.table_name)::regclass
        )
    loop
        execute format(
            'create trigger set_updated_at before update on control.%I '
            'for each row execute function control.set_updated_at()',
            found.table_name
        );
    end loop;
end $$;
