-- The status of a line and since when, whoever changed it. `suspended` is what the customer asked for
-- 停机保号; barring for arrears is an order to the network (billing.service_order) and no status.

create table crm.subscription_status (
    subscription_status_id bigint generated always as identity primary key,
    subscription_id text not null references crm.subscription,
    status text not null check (status in ('active', 'suspended', 'terminated')),
    valid_from timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index subscription_status_subscription on crm.subscription_status (subscription_id);
create trigger append_only before update or delete or truncate on crm.subscription_status
    for each statement execute function control.refuse_change();

-- Nobody knows since when a line is suspended that was so before there was a history: since now.
insert into crm.subscription_status (subscription_id, status, valid_from)
select subscription_id, status, case when status = 'active' then valid_from else now() end
from crm.subscription
order by subscription_id;

-- A new line has its status from its beginning; a change counts from when it is made (by then the
-- line's row is locked, so that changes of a line follow each other).
create function crm.keep_status() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into crm.subscription_status (subscription_id, status, valid_from)
        select subscription_id, status, valid_from from changed order by subscription_id;
    else
        insert into crm.subscription_status (subscription_id, status, valid_from)
        select changed.subscription_id, changed.status, clock_timestamp()
        from changed
        join former on former.subscription_id = changed.subscription_id
        where changed.status <> former.status
        order by changed.subscription_id;
    end if;
    return null;
end $$;
create trigger keep_status_of_new after insert on crm.subscription
    referencing new table as changed for each statement execute function crm.keep_status();
create trigger keep_status after update on crm.subscription
    referencing old table as former new table as changed
    for each statement execute function crm.keep_status();

-- What a month costs in which a line is suspended; none: the fee of any month.
alter table catalogue.price_plan_version
    add column suspension_fee_amount numeric(18, 6)
        check (suspension_fee_amount between 0 and monthly_fee_amount);
