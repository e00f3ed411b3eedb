-- Who pays for lines of other accounts, and what that, discounts and taxes make of a published bill.

-- billing.payment_responsibility: an account pays a share of a line of another account -------------

create table billing.payment_responsibility (
    payment_responsibility_id text primary key,
    account_id text not null references crm.account, -- who pays
    subscription_id text not null references crm.subscription, -- for which line
    bill_item_codes text check (bill_item_codes <> ''), -- comma list; null = all
    share_percent numeric(9, 6) not null check (share_percent > 0 and share_percent <= 100),
    monthly_cap_amount numeric(18, 2) check (monthly_cap_amount > 0), -- null = without limit
    valid_from timestamptz not null,
    valid_to timestamptz check (valid_to > valid_from),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index payment_responsibility_account on billing.payment_responsibility (account_id);
create index payment_responsibility_line on billing.payment_responsibility (subscription_id);
create trigger set_updated_at before update on billing.payment_responsibility
    for each row execute function control.set_updated_at();

-- To pay for a line of one's own is what an account does anyway.
create function billing.guard_payment_responsibility() returns trigger language plpgsql as $$
begin
    if exists (
        select 1 from crm.subscription as sub
        where sub.subscription_id = new.subscription_id and sub.account_id = new.account_id
    ) then
        raise exception 'account % pays for line % anyway: it is its own',
            new.account_id, new.subscription_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before insert or update on billing.payment_responsibility
    for each row execute function billing.guard_payment_responsibility();

-- Published bills ----------------------------------------------------------------------------------

-- charge_amount stays the sum of the items: item_amount - discount_amount + shared_amount.
alter table billing.bill
    add column item_amount numeric(18, 2), -- before discounts
    add column discount_amount numeric(18, 2) not null default 0 check (discount_amount >= 0),
    -- What it pays for lines of others less what others pay for its lines.
    add column shared_amount numeric(18, 2) not null default 0,
    add column tax_amount numeric(18, 2) not null default 0; -- within charge_amount

alter table billing.bill_item
    add column bill_item_key text,
    add column item_kind text not null default 'charge'
        check (item_kind in ('charge', 'minimum', 'discount', 'share')),
    add column discount_id text, -- of a discount, cap or minimum; the names are its names
    add column other_account_id text references crm.account, -- of a share: who pays, or for whom
    add column base_amount numeric(18, 2), -- what discount or share was computed on
    add column tax_class text,
    add column tax_rate_percent numeric(9, 4),
    add column tax_amount numeric(18, 2), -- within amount
    add constraint bill_item_names_its_reason check (
        (item_kind in ('minimum', 'discount')) = (discount_id is not null)
        and (item_kind = 'share') = (other_account_id is not null)
    );

-- Bills of final cycles gain what they always meant, nothing else.
alter table billing.bill disable trigger user;
alter table billing.bill_item disable trigger user;
update billing.bill set item_amount = charge_amount;
update billing.bill_item as itm
set bill_item_key = md5(concat_ws(
    '|', bil.account_id, itm.subscription_id, bil.cycle_id, itm.bill_item_code
))
from billing.bill as bil
where bil.bill_id = itm.bill_id;
alter table billing.bill enable trigger user;
alter table billing.bill_item enable trigger user;

alter table billing.bill
    alter column item_amount set not null,
    add constraint bill_items_add_up
        check (charge_amount = item_amount - discount_amount + shared_amount);
alter table billing.bill_item
    alter column bill_item_key set not null,
    drop constraint bill_item_pkey,
    add primary key (bill_item_key),
    add constraint bill_item_is_listed_once unique nulls not distinct
        (bill_id, subscription_id, bill_item_code, item_kind, discount_id, other_account_id);
