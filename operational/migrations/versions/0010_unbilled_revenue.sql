-- Unbilled revenue 未出帐收入 of a closed month: accrued on its last day, taken back on the first day
-- of the next. Kept when the month is closed, so that both exports have the same figure for good.

create table billing.unbilled_revenue (
    period_id text not null references billing.ledger_period,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    bill_item_code text not null,
    amount numeric(18, 2) not null check (amount <> 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (period_id, province_code, bill_item_code)
);
create trigger append_only before update or delete or truncate on billing.unbilled_revenue
    for each statement execute function control.refuse_change();

create function billing.guard_unbilled_revenue() returns trigger language plpgsql as $$
begin
    if not exists (
        select 1 from billing.ledger_period as per
        where per.period_id = new.period_id and per.created_at = now()
    ) then
        raise exception 'unbilled revenue of % is kept when the month is closed, not after',
            new.period_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before insert on billing.unbilled_revenue
    for each row execute function billing.guard_unbilled_revenue();
