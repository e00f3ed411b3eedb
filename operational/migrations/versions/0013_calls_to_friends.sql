-- A class may go by another one before the class above it: a long-distance call to a friend has the
-- price of calls to friends, or where a plan has none, that of long-distance calls.

alter table catalogue.charge_class
    add column before_class text references catalogue.charge_class
        check (before_class <> charge_class);

create or replace function catalogue.guard_charge_class() returns trigger language plpgsql as $$
declare
    user_version text;
begin
    if tg_op = 'UPDATE'
        and (new.charge_class, new.service, new.unit, new.bill_item_code)
            = (old.charge_class, old.service, old.unit, old.bill_item_code)
        and new.parent_class is not distinct from old.parent_class
        and new.before_class is not distinct from old.before_class
    then
        return new;
    end if;
    with recursive lineage as (
        select old.charge_class as charge_class
        union
        select parents.class
        from (
            select cls.charge_class as below, cls.parent_class as class
            from catalogue.charge_class as cls
            union all
            select cls.charge_class, cls.before_class
            from catalogue.charge_class as cls
            union all
            select new.charge_class, new.parent_class
            union all
            select new.charge_class, new.before_class
        ) as parents
        inner join lineage on parents.below = lineage.charge_class
        where parents.class is not null
    )

    select min(prc.plan_version_id) into user_version
    from lineage
    inner join catalogue.usage_price as prc on prc.charge_class = lineage.charge_class
    where catalogue.is_used(prc.plan_version_id);
    if user_version is not null then
        raise exception
            'charge class % stays as it is: version % in use prices it; add another class',
            old.charge_class, user_version
            using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;
