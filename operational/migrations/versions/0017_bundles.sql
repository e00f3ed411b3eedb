-- A bundle (融合套餐) groups a plan, or one for a mobile and one for a fixed line, with add-ons, for a fee of its own.
alter table catalogue.offering
    drop constraint offering_offering_type_check,
    add constraint offering_offering_type_check
        check (offering_type in ('plan', 'addon', 'content', 'bundle'));

-- What a version of a bundle groups, and what becomes of the monthly fee of each.
create table catalogue.bundle_component (
    plan_version_id text not null references catalogue.price_plan_version,
    offering_id text not null references catalogue.offering,
    -- included: nothing, the bundle's fee holds it; own: as ever; replaced: fee_amount.
    fee_rule text not null check (fee_rule in ('included', 'own', 'replaced')),
    fee_amount numeric(18, 6) check (fee_amount >= 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (plan_version_id, offering_id),
    constraint replaced_fee_has_an_amount check ((fee_rule = 'replaced') = (fee_amount is not null))
);
create index bundle_component_offering on catalogue.bundle_component (offering_id);

create trigger set_updated_at before update on catalogue.bundle_component
    for each row execute function control.set_updated_at();
create trigger a_guard before insert or update or delete on catalogue.bundle_component
    for each row execute function catalogue.guard_version_row('plan_version_id');
create trigger no_truncate before truncate on catalogue.bundle_component
    for each statement execute function control.refuse_change();

-- The bundle is a product of one line; what is held through it names it, on that line or on another of the account.
alter table crm.product_instance
    drop constraint product_instance_role_check,
    add constraint product_instance_role_check check (role in ('plan', 'addon', 'bundle')),
    add column bundle_instance_id text references crm.product_instance,
    add constraint bundles_are_not_nested check (role <> 'bundle' or bundle_instance_id is null),
    add constraint one_bundle_per_subscription exclude using gist (
        numrange(
            hashtextextended(subscription_id, 0)::numeric,
            hashtextextended(subscription_id, 0)::numeric,
            '[]'
        ) with &&,
        tstzrange(valid_from, valid_to) with &&
    ) where (role = 'bundle');
create index product_instance_bundle on crm.product_instance (bundle_instance_id)
    where bundle_instance_id is not null;

alter table crm.customer_order
    drop constraint customer_order_order_type_check,
    add constraint customer_order_order_type_check check (order_type in ('new_subscription', 'bundle'));

-- A component is held through a bundle of its account, and ends by itself only after the bundle. Checked at commit: the
-- bundle and its components begin and end in one transaction, in whatever order.
create function crm.guard_bundle_component() returns trigger language plpgsql as $$
declare
    broken text;
begin
    select cmp.product_instance_id into broken
    from crm.product_instance as cmp
    inner join crm.product_instance as bdl on bdl.product_instance_id = cmp.bundle_instance_id
    inner join crm.subscription as cmp_line on cmp_line.subscription_id = cmp.subscription_id
    inner join crm.subscription as bdl_line on bdl_line.subscription_id = bdl.subscription_id
    where new.product_instance_id in (cmp.product_instance_id, bdl.product_instance_id)
        and (
            bdl.role <> 'bundle'
            or bdl_line.account_id <> cmp_line.account_id
            or coalesce(bdl.valid_to, 'infinity') > coalesce(cmp.valid_to, 'infinity')
        )
    limit 1;
    if broken is not null then
        raise exception
            'product % is held through a bundle of its account until the bundle ends: end the bundle', broken
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;
create constraint trigger bundle_holds_its_components after insert or update on crm.product_instance
    deferrable initially deferred
    for each row when (new.bundle_instance_id is not null or new.role = 'bundle')
    execute function crm.guard_bundle_component();
