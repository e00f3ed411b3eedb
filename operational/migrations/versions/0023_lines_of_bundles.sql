-- A line does not leave the account of a bundle that it holds something through, or that it holds, as long
-- as the bundle lasts. Afterwards its products may end on another account: accounts are compared when a
-- product joins a bundle, and while that lasts.
-- What is held, and what holds, are looked for one after the other: a condition over both uses no index.
create or replace function crm.guard_bundle_component() returns trigger language plpgsql as $$
declare
    broken text;
begin
    select cmp.product_instance_id into broken
    from (
        select * from crm.product_instance where product_instance_id = new.product_instance_id
        union all
        select * from crm.product_instance where bundle_instance_id = new.product_instance_id
    ) as cmp
    inner join crm.product_instance as bdl on bdl.product_instance_id = cmp.bundle_instance_id
    inner join crm.subscription as cmp_line on cmp_line.subscription_id = cmp.subscription_id
    inner join crm.subscription as bdl_line on bdl_line.subscription_id = bdl.subscription_id
    where bdl.role <> 'bundle'
        or (
            bdl_line.account_id <> cmp_line.account_id
            and (
                case tg_op
                    when 'INSERT' then true
                    else new.bundle_instance_id is distinct from old.bundle_instance_id
                        or new.subscription_id <> old.subscription_id
                end
                or coalesce(bdl.valid_to, 'infinity') > now()
            )
        )
        or coalesce(bdl.valid_to, 'infinity') > coalesce(cmp.valid_to, 'infinity')
    limit 1;
    if broken is not null then
        raise exception
            'product % is held through a bundle of its account until the bundle ends: end the bundle', broken
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;

create function crm.guard_line_in_bundle() returns trigger language plpgsql as $$
declare
    broken text;
begin
    select cmp.product_instance_id into broken
    from (
        select * from crm.product_instance where subscription_id = new.subscription_id
        union all
        select held.*
        from crm.product_instance as holds
        inner join crm.product_instance as held on held.bundle_instance_id = holds.product_instance_id
        where holds.subscription_id = new.subscription_id
    ) as cmp
    inner join crm.product_instance as bdl on bdl.product_instance_id = cmp.bundle_instance_id
    inner join crm.subscription as cmp_line on cmp_line.subscription_id = cmp.subscription_id
    inner join crm.subscription as bdl_line on bdl_line.subscription_id = bdl.subscription_id
    where bdl_line.account_id <> cmp_line.account_id
        and coalesce(bdl.valid_to, 'infinity') > now()
    limit 1;
    if broken is not null then
        raise exception
            'line % stays in its account: product % is held through a bundle of it; end the bundle first',
            new.subscription_id, broken
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;
-- Checked at commit: the lines of a bundle may move together, or after it has ended.
create constraint trigger bundle_holds_its_lines after update of account_id on crm.subscription
    deferrable initially deferred
    for each row when (new.account_id <> old.account_id)
    execute function crm.guard_line_in_bundle();
