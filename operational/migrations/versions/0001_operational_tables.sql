-- The operational database: what people and partners change, by the system that owns it.
-- Rules that must hold whoever writes (web, loader, psql) are constraints and triggers here.

create schema crm;
create schema resource;
create schema catalogue;
create schema billing;
create schema settlement;
create schema control;
create schema identity;

-- Triggers shared by all schemas ----------------------------------------------------------------

create function control.set_updated_at() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end $$;

create function control.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '%.% is append-only: % is refused; write a new row that reverses the old one',
        tg_table_schema, tg_table_name, lower(tg_op)
        using errcode = 'restrict_violation';
end $$;

-- A state machine is a table of allowed transitions; arguments: schema of that table, its name.
create function control.check_transition() returns trigger language plpgsql as $$
declare
    is_allowed boolean;
begin
    if new.state is distinct from old.state then
        execute format(
            'select exists (select 1 from %I.%I where from_state = $1 and to_state = $2)',
            tg_argv[0], tg_argv[1]
        ) into is_allowed using old.state, new.state;
        if not is_allowed then
            raise exception '%.%: no transition from % to %',
                tg_table_schema, tg_table_name, old.state, new.state
                using errcode = 'restrict_violation';
        end if;
    end if;
    return new;
end $$;

-- identity: who may act, and who did what --------------------------------------------------------

create table identity.app_user (
    user_id bigint generated always as identity primary key,
    username text not null unique check (username ~ '^[a-z][a-z0-9._-]{1,63}$'),
    password_hash text not null,
    display_name text not null,
    role text not null check (role in ('admin', 'agent', 'finance', 'operator', 'analyst')),
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    language text not null default 'zh' check (language in ('zh', 'en')),
    is_active boolean not null default true,
    session_epoch integer not null default 0,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table identity.audit_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    username text not null,
    action text not null,
    entity_type text not null,
    entity_id text not null,
    detail jsonb not null default '{}',
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index audit_log_entity on identity.audit_log (entity_type, entity_id);

create trigger append_only before update or delete or truncate on identity.audit_log
    for each statement execute function control.refuse_change();

-- catalogue: offerings, price plan versions, prices, allowances ----------------------------------

create table catalogue.offering (
    offering_id text primary key,
    offering_type text not null check (offering_type in ('plan', 'addon')),
    name_zh text not null,
    name_en text not null,
    status text not null check (status in ('active', 'withdrawn')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table catalogue.price_plan_version (
    plan_version_id text primary key,
    offering_id text not null references catalogue.offering,
    version_number integer not null check (version_number >= 1),
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to > valid_from),
    monthly_fee_amount numeric(18, 6) not null check (monthly_fee_amount >= 0),
    currency_code text not null check (currency_code ~ '^[A-Z]{3}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (offering_id, version_number),
    -- One version in force at a time. GiST has no text operators without btree_gist, so the text
    -- enters as a range of one point, its 64-bit hash.
    constraint one_version_in_force exclude using gist (
        numrange(
            hashtextextended(offering_id, 0)::numeric, hashtextextended(offering_id, 0)::numeric, '[]'
        ) with &&,
        tstzrange(valid_from, valid_to) with &&
    )
);

create table catalogue.usage_price (
    usage_price_id text primary key,
    plan_version_id text not null references catalogue.price_plan_version,
    charge_class text not null,
    model text not null check (model in ('slots', 'graduated')),
    repeat_quantity bigint check (repeat_quantity > 0),
    rounding_mode text not null check (rounding_mode in ('half_up', 'up', 'down')),
    rounding_digits integer not null check (rounding_digits between 0 and 6),
    bill_item_code text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (plan_version_id, charge_class)
);

create table catalogue.price_tier (
    usage_price_id text not null references catalogue.usage_price,
    tier_number integer not null check (tier_number >= 1),
    from_quantity bigint not null check (from_quantity >= 0),
    to_quantity bigint check (to_quantity > from_quantity),
    increment_quantity bigint not null check (increment_quantity > 0),
    per_quantity bigint not null check (per_quantity > 0),
    price_amount numeric(18, 6) not null check (price_amount >= 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (usage_price_id, tier_number)
);

create table catalogue.allowance (
    allowance_id text primary key,
    plan_version_id text not null references catalogue.price_plan_version,
    unit text not null check (unit in ('second', 'octet', 'event')),
    size_quantity bigint not null check (size_quantity > 0),
    priority integer not null,
    scope text not null check (scope in ('line')),
    quantity_basis text not null check (quantity_basis in ('raw', 'rounded')),
    rounding_increment bigint not null check (rounding_increment >= 1),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table catalogue.allowance_coverage (
    allowance_id text not null references catalogue.allowance,
    charge_class text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (allowance_id, charge_class)
);

-- crm: customer, account, subscription, order ----------------------------------------------------

create sequence crm.customer_number;
create sequence crm.account_number;
create sequence crm.subscription_number;
create sequence crm.product_instance_number;

create table crm.customer (
    customer_id text primary key,
    customer_type text not null check (customer_type in ('individual', 'household', 'group')),
    name text not null check (name <> ''),
    id_number text,
    segment text,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index customer_name on crm.customer (name text_pattern_ops);
create index customer_id_number on crm.customer (id_number);

create table crm.account (
    account_id text primary key,
    customer_id text not null references crm.customer,
    account_name text not null,
    bill_language text not null check (bill_language in ('zh', 'en')),
    status text not null check (status in ('active', 'closed')),
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index account_customer on crm.account (customer_id);

create table crm.subscription (
    subscription_id text primary key,
    account_id text not null references crm.account,
    msisdn text not null check (msisdn ~ '^[1-9][0-9]{7,14}$'),
    imsi text check (imsi ~ '^[0-9]{14,15}$'),
    service_type text not null check (service_type in ('mobile')),
    payment_type text not null check (payment_type in ('postpaid', 'prepaid')),
    status text not null check (status in ('active', 'suspended', 'terminated')),
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to > valid_from),
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- A number belongs to one subscription at a time. GiST has no text operators without
    -- btree_gist, so the number (at most 15 digits) enters as a range of one whole number.
    constraint one_subscription_per_msisdn exclude using gist (
        int8range(msisdn::bigint, msisdn::bigint, '[]') with &&,
        tstzrange(valid_from, valid_to) with &&
    )
);
create index subscription_account on crm.subscription (account_id);
create index subscription_msisdn on crm.subscription (msisdn text_pattern_ops);

create table crm.product_instance (
    product_instance_id text primary key,
    subscription_id text not null references crm.subscription,
    offering_id text not null references catalogue.offering,
    role text not null check (role in ('plan', 'addon')),
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to > valid_from),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- One plan at a time (the hash as a range of one point: see price_plan_version).
    constraint one_plan_per_subscription exclude using gist (
        numrange(
            hashtextextended(subscription_id, 0)::numeric,
            hashtextextended(subscription_id, 0)::numeric,
            '[]'
        ) with &&,
        tstzrange(valid_from, valid_to) with &&
    ) where (role = 'plan')
);
create index product_instance_subscription on crm.product_instance (subscription_id);

create table crm.customer_order_transition (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
insert into crm.customer_order_transition (from_state, to_state) values
    ('draft', 'submitted'), ('draft', 'cancelled'),
    ('submitted', 'completed'), ('submitted', 'failed'), ('submitted', 'cancelled');

create table crm.customer_order (
    order_id text primary key,
    order_type text not null check (order_type in ('new_subscription')),
    state text not null
        check (state in ('draft', 'submitted', 'completed', 'cancelled', 'failed')),
    customer_id text references crm.customer,
    subscription_id text references crm.subscription,
    requested jsonb not null,
    placed_by text not null,
    completed_at timestamptz,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (state <> 'completed' or (subscription_id is not null and completed_at is not null))
);

create table crm.customer_order_event (
    event_id bigint generated always as identity primary key,
    order_id text not null references crm.customer_order,
    at timestamptz not null default clock_timestamp(),
    from_state text,
    to_state text not null,
    by_user text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index customer_order_event_order on crm.customer_order_event (order_id);

create trigger allowed_transition before update on crm.customer_order
    for each row execute function control.check_transition('crm', 'customer_order_transition');
create trigger append_only before update or delete or truncate on crm.customer_order_event
    for each statement execute function control.refuse_change();

create table crm.customer_score (
    subscription_id text primary key references crm.subscription,
    account_id text not null,
    customer_id text not null,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    churn_probability numeric(9, 6) not null check (churn_probability between 0 and 1),
    churn_decile integer not null check (churn_decile between 1 and 10),
    churn_reasons text not null,
    value_amount numeric(18, 2) not null,
    value_segment text not null check (value_segment in ('high', 'medium', 'low')),
    value_at_risk_amount numeric(18, 2) not null,
    model_version text not null,
    data_cut_off date not null,
    run_id text not null,
    published_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index customer_score_customer on crm.customer_score (customer_id);

-- resource: number pool --------------------------------------------------------------------------

create table resource.msisdn (
    msisdn text primary key check (msisdn ~ '^[1-9][0-9]{7,14}$'),
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    status text not null check (status in ('free', 'reserved', 'assigned')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index msisdn_free on resource.msisdn (province_code, msisdn) where status = 'free';

-- billing: cycle, payment, published bills -------------------------------------------------------

create table billing.billing_cycle_transition (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
insert into billing.billing_cycle_transition (from_state, to_state) values
    ('open', 'cut_off'), ('cut_off', 'trial'), ('trial', 'cut_off'),
    ('trial', 'approved'), ('approved', 'final');

create table billing.billing_cycle (
    cycle_id text primary key check (cycle_id ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    state text not null default 'open'
        check (state in ('open', 'cut_off', 'trial', 'approved', 'final')),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (ends_at > starts_at),
    constraint cycles_do_not_overlap exclude using gist (tstzrange(starts_at, ends_at) with &&)
);

create function billing.guard_billing_cycle() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if new.state <> 'open' then
            raise exception 'billing cycle % must begin as open, not %', new.cycle_id, new.state
                using errcode = 'restrict_violation';
        end if;
        return new;
    end if;
    if old.state = 'final' then
        raise exception 'billing cycle % is final: nothing may change it', old.cycle_id
            using errcode = 'restrict_violation';
    end if;
    if tg_op = 'DELETE' then
        if old.state <> 'open' then
            raise exception 'billing cycle % is %: it may not be deleted', old.cycle_id, old.state
                using errcode = 'restrict_violation';
        end if;
        return old;
    end if;
    if (new.cycle_id, new.starts_at, new.ends_at)
        is distinct from (old.cycle_id, old.starts_at, old.ends_at) and old.state <> 'open' then
        raise exception 'billing cycle % is %: its dates are fixed', old.cycle_id, old.state
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

create trigger a_guard before insert or update or delete on billing.billing_cycle
    for each row execute function billing.guard_billing_cycle();
create trigger allowed_transition before update on billing.billing_cycle
    for each row execute function control.check_transition('billing', 'billing_cycle_transition');
create trigger no_truncate before truncate on billing.billing_cycle
    for each statement execute function control.refuse_change();

create table billing.billing_cycle_event (
    event_id bigint generated always as identity primary key,
    cycle_id text not null references billing.billing_cycle,
    at timestamptz not null default clock_timestamp(),
    from_state text,
    to_state text not null,
    by_user text not null,
    reason text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index billing_cycle_event_cycle on billing.billing_cycle_event (cycle_id);
create trigger append_only before update or delete or truncate on billing.billing_cycle_event
    for each statement execute function control.refuse_change();

create table billing.payment (
    payment_id text primary key,
    account_id text not null references crm.account,
    paid_at timestamptz not null,
    amount numeric(18, 2) not null check (amount <> 0),
    currency_code text not null check (currency_code ~ '^[A-Z]{3}$'),
    channel text not null check (channel in ('counter', 'bank', 'card', 'online')),
    idempotency_key text not null unique,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index payment_account on billing.payment (account_id, paid_at);
create trigger append_only before update or delete or truncate on billing.payment
    for each statement execute function control.refuse_change();

create table billing.bill (
    bill_id text primary key,
    account_id text not null references crm.account,
    cycle_id text not null references billing.billing_cycle,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    opening_amount numeric(18, 2) not null,
    charge_amount numeric(18, 2) not null,
    payment_amount numeric(18, 2) not null,
    closing_amount numeric(18, 2) not null,
    currency_code text not null check (currency_code ~ '^[A-Z]{3}$'),
    content_hash text not null,
    published_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (account_id, cycle_id),
    constraint bill_balances
        check (closing_amount = opening_amount + charge_amount - payment_amount)
);
create index bill_cycle on billing.bill (cycle_id, published_at);

create table billing.bill_item (
    bill_id text not null references billing.bill,
    subscription_id text not null references crm.subscription,
    bill_item_code text not null,
    name_zh text not null,
    name_en text not null,
    quantity bigint, -- null, like its unit, where an item mixes units
    unit text,
    amount numeric(18, 2) not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (bill_id, subscription_id, bill_item_code)
);

-- A bill of a final cycle is written once, whole, in one transaction, and never again. Bills of an
-- earlier state may be replaced. The row lock keeps the cycle's state from moving meanwhile.
create function billing.stamp_published_at() returns trigger language plpgsql as $$
begin
    new.published_at := now();
    return new;
end $$;
create trigger stamp_published_at before insert on billing.bill
    for each row execute function billing.stamp_published_at();

create function billing.guard_bill() returns trigger language plpgsql as $$
declare
    refused text;
begin
    perform 1 from billing.billing_cycle
        where cycle_id in (select cycle_id from changed) for share;
    select chg.bill_id into refused
    from changed as chg
    join billing.billing_cycle as cyc on cyc.cycle_id = chg.cycle_id
    where cyc.state = 'final'
        and (
            tg_op <> 'INSERT'
            or exists (
                select 1 from billing.bill as bil
                where bil.cycle_id = chg.cycle_id and bil.published_at < now()
            )
        )
    order by chg.bill_id limit 1;
    if refused is not null then
        raise exception 'bill % belongs to a final cycle: % is refused', refused, lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;

create function billing.guard_bill_item() returns trigger language plpgsql as $$
declare
    refused text;
begin
    perform 1 from billing.billing_cycle where cycle_id in (
        select bil.cycle_id from changed as chg join billing.bill as bil on bil.bill_id = chg.bill_id
    ) for share;
    select chg.bill_id into refused
    from changed as chg
    join billing.bill as bil on bil.bill_id = chg.bill_id
    join billing.billing_cycle as cyc on cyc.cycle_id = bil.cycle_id
    where cyc.state = 'final' and (tg_op <> 'INSERT' or bil.published_at < now())
    order by chg.bill_id limit 1;
    if refused is not null then
        raise exception 'an item of bill % belongs to a final cycle: % is refused',
            refused, lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;

create trigger guard_insert after insert on billing.bill referencing new table as changed
    for each statement execute function billing.guard_bill();
create trigger guard_update_old after update on billing.bill referencing old table as changed
    for each statement execute function billing.guard_bill();
create trigger guard_update_new after update on billing.bill referencing new table as changed
    for each statement execute function billing.guard_bill();
create trigger guard_delete after delete on billing.bill referencing old table as changed
    for each statement execute function billing.guard_bill();
create trigger no_truncate before truncate on billing.bill
    for each statement execute function control.refuse_change();

create trigger guard_insert after insert on billing.bill_item referencing new table as changed
    for each statement execute function billing.guard_bill_item();
create trigger guard_update_old after update on billing.bill_item referencing old table as changed
    for each statement execute function billing.guard_bill_item();
create trigger guard_update_new after update on billing.bill_item referencing new table as changed
    for each statement execute function billing.guard_bill_item();
create trigger guard_delete after delete on billing.bill_item referencing old table as changed
    for each statement execute function billing.guard_bill_item();
create trigger no_truncate before truncate on billing.bill_item
    for each statement execute function control.refuse_change();

-- settlement: agreements, rates, trunk groups ----------------------------------------------------

create table settlement.agreement (
    agreement_id text primary key,
    counterparty_code text not null,
    counterparty_name_zh text not null,
    counterparty_name_en text not null,
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to > valid_from),
    currency_code text not null check (currency_code ~ '^[A-Z]{3}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table settlement.agreement_rate (
    agreement_id text not null references settlement.agreement,
    version_number integer not null check (version_number >= 1),
    service text not null check (service in ('voice')),
    direction text not null check (direction in ('receivable', 'payable')),
    rate_amount numeric(18, 6) not null check (rate_amount >= 0),
    per_quantity bigint not null check (per_quantity > 0),
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to > valid_from),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (agreement_id, version_number, service, direction)
);

create table settlement.trunk_group (
    trunk_group_id text primary key,
    operator_code text not null,
    direction text not null check (direction in ('in', 'out')),
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- control: sources, files, batches, runs ---------------------------------------------------------

create table control.source (
    source_id text primary key,
    name text not null,
    format text not null,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    sequence_rule text,
    late_after_hours integer not null check (late_after_hours > 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table control.batch (
    batch_id text primary key,
    purpose text not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    file_count integer not null default 0,
    record_count bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table control.usage_file (
    file_id text primary key,
    source_id text not null,
    file_name text not null,
    format text,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    sha256 text not null,
    size_bytes bigint not null check (size_bytes >= 0),
    sequence_number integer,
    created_at_source timestamptz,
    received_at timestamptz not null,
    collected_at timestamptz not null default now(),
    status text not null check (
        status in ('collected', 'landed', 'mediated', 'duplicate', 'rejected', 'rolled_back')
    ),
    status_reason text,
    duplicate_of_file_id text,
    declared_record_count integer,
    decoded_record_count integer,
    batch_id text,
    landed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index usage_file_status on control.usage_file (status, received_at);
-- The same content of one source is in use once, however many processes collect.
create unique index usage_file_content on control.usage_file (source_id, sha256)
    where status in ('collected', 'landed', 'mediated');

create table control.pipeline_run (
    run_id text primary key,
    step text not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    status text not null check (status in ('running', 'succeeded', 'failed')),
    detail jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- updated_at is maintained on every table that has it.
do $$
declare
    found record;
begin
    for found in
        select table_schema, table_name from information_schema.columns
        where column_name = 'updated_at' and table_schema in (
            'crm', 'resource', 'catalogue', 'billing', 'settlement', 'control', 'identity'
        )
    loop
        execute format(
            'create trigger set_updated_at before update on %I.%I '
            'for each row execute function control.set_updated_at()',
            found.table_schema, found.table_name
        );
    end loop;
end $$;
