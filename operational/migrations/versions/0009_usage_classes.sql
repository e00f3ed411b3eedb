-- What usage is classified by that belongs to a line or a provider: friend numbers, groups whose
-- members call each other by short numbers, codes of content; and lines that are fixed.

-- crm.subscription: mobile or fixed ---------------------------------------------------------------

alter table crm.subscription
    drop constraint subscription_service_type_check,
    add constraint subscription_service_type_check check (service_type in ('mobile', 'fixed')),
    -- A fixed line has no card.
    add constraint fixed_line_has_no_imsi check (service_type = 'mobile' or imsi is null);

-- GiST has no text operators without btree_gist: a text enters as a range of one whole number.
create function crm.text_range(value text) returns int8range
language sql immutable strict parallel safe
return int8range(hashtextextended(value, 0), hashtextextended(value, 0), '[]');

-- crm.friend_number: calls to it have a price of their own 亲情号码 -------------------------------

create table crm.friend_number (
    friend_number_id bigint generated always as identity primary key,
    subscription_id text not null references crm.subscription,
    number text not null check (number ~ '^[1-9][0-9]{7,14}$'), -- E.164 digits
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to >= valid_from),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint friend_number_is_named_once exclude using gist (
        crm.text_range(subscription_id) with &&,
        crm.text_range(number) with &&,
        tstzrange(valid_from, valid_to) with &&
    )
);
create index friend_number_subscription on crm.friend_number (subscription_id);

-- crm.call_group 集团虚拟网, and its members ------------------------------------------------------

create sequence crm.call_group_number;
create table crm.call_group (
    call_group_id text primary key,
    customer_id text not null references crm.customer,
    name text not null check (name <> ''),
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index call_group_customer on crm.call_group (customer_id);

create table crm.call_group_member (
    call_group_member_id bigint generated always as identity primary key,
    call_group_id text not null references crm.call_group,
    subscription_id text not null references crm.subscription,
    -- 1 begins service and emergency numbers, 95 and 96 public ones, 0 and 9 other numbers.
    short_number text not null check (short_number ~ '^[2-8][0-9]{2,5}$'),
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to >= valid_from),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint one_group_per_subscription exclude using gist (
        crm.text_range(subscription_id) with &&,
        tstzrange(valid_from, valid_to) with &&
    ),
    constraint one_member_per_short_number exclude using gist (
        crm.text_range(call_group_id) with &&,
        crm.text_range(short_number) with &&,
        tstzrange(valid_from, valid_to) with &&
    )
);
create index call_group_member_subscription on crm.call_group_member (subscription_id);
create index call_group_member_group on crm.call_group_member (call_group_id);

create trigger set_updated_at before update on crm.friend_number
    for each row execute function control.set_updated_at();
create trigger set_updated_at before update on crm.call_group
    for each row execute function control.set_updated_at();
create trigger set_updated_at before update on crm.call_group_member
    for each row execute function control.set_updated_at();

-- What was valid stays as it was: only an end that has not come yet moves, and not into the past.
create function crm.guard_validity() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE'
        or to_jsonb(new) - array['valid_to', 'updated_at']
            <> to_jsonb(old) - array['valid_to', 'updated_at']
        or (new.valid_to is distinct from old.valid_to
            and (old.valid_to <= now() or new.valid_to < now()))
    then
        raise exception 'a row of % keeps what was valid: end it and add another', tg_table_name
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before update or delete on crm.friend_number
    for each row execute function crm.guard_validity();
create trigger a_guard before update or delete on crm.call_group_member
    for each row execute function crm.guard_validity();

-- catalogue.offering: content of a provider is one, its prices are the versions --------------------

alter table catalogue.offering
    drop constraint offering_offering_type_check,
    add constraint offering_offering_type_check
        check (offering_type in ('plan', 'addon', 'content')),
    add column sp_id text check (sp_id <> ''), -- as the provider's records name them
    add column content_id text check (content_id <> ''),
    add constraint content_has_its_codes check (
        (offering_type = 'content') = (sp_id is not null)
        and (offering_type = 'content') = (content_id is not null)
    ),
    add constraint content_is_offered_once unique (sp_id, content_id);

-- A version is in use once something was sold or rated by it; content, once its price is in force:
-- whoever wants it may have bought it.
create or replace function catalogue.is_used(asked_version_id text) returns boolean
language sql stable as $$
    select exists (
        select 1 from catalogue.price_plan_version as ver
        inner join catalogue.offering as ofr on ofr.offering_id = ver.offering_id
        where ver.plan_version_id = asked_version_id and (
            ver.used_at is not null
            or (ofr.offering_type = 'content' and ver.valid_from <= now())
            or exists (
                select 1 from crm.product_instance as ins
                where ins.offering_id = ver.offering_id
                    and ver.valid_from <= now()
                    and ins.valid_from < coalesce(ver.valid_to, 'infinity')
                    and coalesce(ins.valid_to, 'infinity') > ver.valid_from
            )
        )
    )
$$;
