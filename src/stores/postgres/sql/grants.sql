-- Rights on what is new. `$S` stands for the quoted schema. Roles that could use the tables of an older version can use those
-- of this one; and `append` and `position`, which act with the rights of the owner, are for those that could append before
-- and those that are given them, for `usage` on a schema that only nodes used was no right to append.
do $do$ declare
    r record;
    calls constant text := '$S.append(text, jsonb, text, bigint, text, boolean), '
        '$S.append_text(text, text, text, bigint, text, boolean), '
        '$S.append_data(text, bytea, boolean, text, bigint, text, boolean), $S.position(text)';
begin
    if exists (select from $S.place where version >= 3) then
        return;
    end if;
    execute format('revoke execute on function %s from public', calls);
    for r in
        select quote_ident(rolname) as name, has_table_privilege(oid, '$S.entry', 'insert') as writes
        from pg_roles
        where not rolsuper and rolname <> current_user and has_table_privilege(oid, '$S.entry', 'select')
            and rolname !~ '^pg_'
    loop
        execute format('grant select on $S.head, $S.name, $S.floor to %s', r.name);
        if r.writes then
            execute format('grant insert, update, delete on $S.head, $S.name, $S.floor to %s', r.name);
            execute format('grant execute on function %s to %s', calls, r.name);
        end if;
    end loop;
end $do$;
