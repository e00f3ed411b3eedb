-- Tariffs in full: charge classes, calendars, bands, all price models, allowances that are shared or
-- carried over, discounts, one-off prices, commitments. Quantities in seconds, octets or events.

-- catalogue.charge_class: what usage is classified into -------------------------------------------

create table catalogue.charge_class (
    charge_class text primary key check (charge_class ~ '^[a-z][a-z0-9_]*$'),
    -- A plan without a price for a class uses the price of the nearest class above it.
    parent_class text references catalogue.charge_class check (parent_class <> charge_class),
    service text not null check (service in ('voice', 'sms', 'mms', 'data', 'vas')),
    unit text not null check (unit in ('second', 'octet', 'event')),
    bill_item_code text not null,
    name_zh text not null,
    name_en text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
-- The classes of the versions that are there; the catalogue names and orders them when loaded.
insert into catalogue.charge_class
    (charge_class, service, unit, bill_item_code, name_zh, name_en)
select
    prc.charge_class, split_part(prc.charge_class, '_', 1),
    case split_part(prc.charge_class, '_', 1)
        when 'voice' then 'second' when 'data' then 'octet' else 'event'
    end,
    min(prc.bill_item_code), prc.charge_class, prc.charge_class
from catalogue.usage_price as prc
group by prc.charge_class;

-- Calendars: which band a second of a day belongs to ----------------------------------------------

create table catalogue.calendar (
    calendar_id text primary key check (calendar_id <> ''),
    name_zh text not null,
    name_en text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table catalogue.calendar_period (
    calendar_id text not null references catalogue.calendar,
    band text not null check (band <> ''),
    day_type text not null
        check (day_type in ('mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun', 'holiday')),
    from_second integer not null check (from_second >= 0),
    to_second integer not null check (to_second <= 86400), -- of the local clock, half-open
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (calendar_id, day_type, from_second),
    check (to_second > from_second)
);

create table catalogue.calendar_holiday (
    calendar_id text not null references catalogue.calendar,
    holiday_date date not null,
    name_zh text not null,
    name_en text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (calendar_id, holiday_date)
);

-- catalogue.price_plan_version: fee rules, calendar, and since when it is in use ------------------

alter table catalogue.price_plan_version
    add column calendar_id text references catalogue.calendar,
    -- What the numerators of its price steps are divided by, to give millionths of the currency.
    add column cost_denominator numeric(18, 0) not null default 1 check (cost_denominator > 0),
    -- half_after_mid: joined on the 16th or later, half the fee and half of every allowance.
    add column first_month_rule text not null default 'prorated'
        check (first_month_rule in ('prorated', 'whole', 'half_after_mid', 'free')),
    add column last_month_rule text not null default 'prorated'
        check (last_month_rule in ('prorated', 'whole')),
    add column minimum_consumption_amount numeric(18, 2) check (minimum_consumption_amount > 0),
    add column late_usage_policy text not null default 'next_bill'
        check (late_usage_policy in ('next_bill', 'restate', 'write_off')),
    add column used_at timestamptz; -- set when something was rated or sold by it

-- By whose clock time bands and dates go: the account's, null = the carrier's.
alter table crm.account add column time_zone text check (time_zone <> '');

-- catalogue.usage_price, price_tier, price_step ---------------------------------------------------

alter table catalogue.usage_price
    drop constraint usage_price_model_check,
    drop constraint usage_price_plan_version_id_charge_class_key,
    alter column repeat_quantity type numeric(24, 6),
    add column band text check (band <> ''), -- null = all day
    add column overhang text not null default 'absorb' check (overhang in ('absorb', 'each')),
    add column connection_fee_amount numeric(18, 6) not null default 0
        check (connection_fee_amount >= 0),
    add column minimum_amount numeric(18, 6) check (minimum_amount > 0),
    add column maximum_amount numeric(18, 6) check (maximum_amount >= minimum_amount),
    add constraint usage_price_model_check
        check (model in ('slots', 'graduated', 'volume', 'package')),
    add constraint usage_price_charge_class_fkey
        foreign key (charge_class) references catalogue.charge_class,
    add constraint usage_price_is_given_once
        unique nulls not distinct (plan_version_id, charge_class, band);

alter table catalogue.price_tier
    alter column from_quantity type numeric(24, 6),
    alter column to_quantity type numeric(24, 6),
    alter column increment_quantity type numeric(24, 6),
    alter column per_quantity type numeric(24, 6),
    add column flat_amount numeric(18, 6) not null default 0 check (flat_amount >= 0),
    add column is_partial boolean not null default false; -- priced pro rata, not by increments

-- The tiers as SQL evaluates them (operational/catalogue/price_steps.py says how).
create table catalogue.price_step (
    usage_price_id text not null references catalogue.usage_price,
    step_number integer not null check (step_number >= 1),
    above_quantity numeric(24, 6) not null,
    up_to_quantity numeric(24, 6) check (up_to_quantity > above_quantity),
    start_quantity numeric(24, 6) not null check (start_quantity >= 0),
    cap_quantity numeric(24, 6) check (cap_quantity > start_quantity),
    increment_quantity numeric(24, 6) not null check (increment_quantity > 0),
    base_numerator numeric(38, 0) not null,
    unit_numerator numeric(38, 0) not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (usage_price_id, step_number)
);

-- catalogue.allowance and what it covers ----------------------------------------------------------

alter table catalogue.allowance
    drop constraint allowance_unit_check,
    drop constraint allowance_scope_check,
    alter column size_quantity type numeric(24, 6),
    alter column rounding_increment type numeric(24, 6),
    add constraint allowance_unit_check check (unit in ('second', 'octet', 'event', 'money')),
    -- shared: one bucket for all lines of the holder's account; pooled: size times the holders.
    add constraint allowance_scope_check check (scope in ('line', 'shared', 'pooled')),
    add column rollover_months integer not null default 0 check (rollover_months >= 0),
    add column name_zh text,
    add column name_en text;
update catalogue.allowance set
    name_zh = case unit when 'second' then '语音' when 'octet' then '流量' else '条数' end,
    name_en = case unit when 'second' then 'Voice' when 'octet' then 'Data' else 'Events' end;
alter table catalogue.allowance
    alter column name_zh set not null,
    alter column name_en set not null;

alter table catalogue.allowance_coverage
    add column allowance_coverage_id text,
    add column band text check (band <> ''); -- null = whatever band
update catalogue.allowance_coverage set allowance_coverage_id = allowance_id || '/' || charge_class;
alter table catalogue.allowance_coverage
    drop constraint allowance_coverage_pkey,
    alter column allowance_coverage_id set not null,
    add primary key (allowance_coverage_id),
    add constraint allowance_coverage_charge_class_fkey
        foreign key (charge_class) references catalogue.charge_class,
    add constraint allowance_covers_a_class_once
        unique nulls not distinct (allowance_id, charge_class, band);

-- Discounts, one-off prices, commitments ----------------------------------------------------------

create table catalogue.discount (
    discount_id text primary key,
    plan_version_id text not null references catalogue.price_plan_version,
    sequence integer not null check (sequence >= 1), -- the order in which they apply
    name_zh text not null,
    name_en text not null,
    kind text not null check (kind in ('percent', 'amount', 'cap', 'minimum')),
    value numeric(18, 6) not null check (value > 0),
    bill_item_codes text check (bill_item_codes <> ''), -- null = all
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (plan_version_id, sequence),
    check (kind <> 'percent' or value <= 100)
);

create table catalogue.one_off_price (
    plan_version_id text not null references catalogue.price_plan_version,
    occasion text not null check (occasion in ('join', 'change', 'leave', 'sim_replacement')),
    amount numeric(18, 6) not null check (amount >= 0),
    bill_item_code text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (plan_version_id, occasion)
);

create table catalogue.commitment (
    plan_version_id text primary key references catalogue.price_plan_version,
    months integer not null check (months >= 1),
    -- remaining_share: that percentage of the fees of the months that are left.
    penalty_rule text not null check (penalty_rule in ('fixed', 'remaining_share')),
    penalty_value numeric(18, 6) not null check (penalty_value >= 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (penalty_rule <> 'remaining_share' or penalty_value <= 100)
);

create index price_plan_version_calendar on catalogue.price_plan_version (calendar_id);
create index allowance_plan_version on catalogue.allowance (plan_version_id);
create index product_instance_offering on crm.product_instance (offering_id);

-- updated_at is maintained on the tables made here.
do $$
declare
    made text;
begin
    foreach made in array array[
        'charge_class', 'calendar', 'calendar_period', 'calendar_holiday', 'price_step',
        'discount', 'one_off_price', 'commitment'
    ] loop
        execute format(
            'create trigger set_updated_at before update on catalogue.%I '
            'for each row execute function control.set_updated_at()',
            made
        );
    end loop;
end $$;
