-- What a published bill's payments and adjustments are made of. It stands with the bill: what becomes known
-- of a final cycle later is no part of it, though its day lies within the cycle.
create table billing.bill_movement (
    bill_movement_key text primary key,
    bill_id text not null references billing.bill,
    payment_id text unique references billing.payment, -- unique: it counts on one bill
    entry_id bigint unique references billing.ledger_entry,
    amount numeric(18, 2) not null, -- of a payment, received; of an adjustment, owed more
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint movement_is_of_one_kind check (num_nonnulls(payment_id, entry_id) = 1)
);
create index bill_movement_bill on billing.bill_movement (bill_id);

create trigger guard_insert after insert on billing.bill_movement
    referencing new table as changed
    for each statement execute function billing.guard_bill_item();
create trigger guard_update_old after update on billing.bill_movement
    referencing old table as changed
    for each statement execute function billing.guard_bill_item();
create trigger guard_update_new after update on billing.bill_movement
    referencing new table as changed
    for each statement execute function billing.guard_bill_item();
create trigger guard_delete after delete on billing.bill_movement
    referencing old table as changed
    for each statement execute function billing.guard_bill_item();
create trigger no_truncate before truncate on billing.bill_movement
    for each statement execute function control.refuse_change();
create trigger set_updated_at before update on billing.bill_movement
    for each row execute function control.set_updated_at();
