-- By what a gateway is known: `onetake doctor` sends a number that nobody knew through the public address, and the
-- answer shows that it came to a gateway on this database, in the life that it has now.

create table onetake.secret (
    the_only boolean primary key default true check (the_only),
    value    text not null default gen_random_uuid()::text || gen_random_uuid()::text
);

insert into onetake.secret default values;

create function onetake.whoami(p_nonce text) returns text language sql stable as $$
    select encode(sha256(convert_to(concat_ws('/', value, onetake.epoch(), p_nonce), 'UTF8')), 'hex')
    from onetake.secret
$$;
