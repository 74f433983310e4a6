-- The schema as version 2 made it, with some rows; the functions are there for their names. `version2` is the schema's name.
CREATE SCHEMA version2;
CREATE TABLE version2.channel (
    name text NOT NULL COLLATE pg_catalog."C",
    log bigint NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    tag integer NOT NULL,
    before_tag integer NOT NULL,
    closed boolean NOT NULL,
    earliest_seq bigint NOT NULL,
    earliest_tag integer NOT NULL,
    dropped_time bigint,
    bytes bigint NOT NULL,
    stamp bigint NOT NULL,
    trim_at bigint NOT NULL,
    emptied_at bigint NOT NULL,
    due bigint NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='500');
CREATE TABLE version2.entry (
    log bigint NOT NULL,
    seq bigint NOT NULL,
    tag integer NOT NULL,
    prev_tag integer NOT NULL,
    size integer NOT NULL,
    appended bigint NOT NULL,
    "time" bigint NOT NULL,
    is_text boolean NOT NULL,
    name text,
    data bytea NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='2000', autovacuum_vacuum_cost_delay='1');
CREATE TABLE version2.garbage (
    log bigint NOT NULL
);
CREATE TABLE version2.key (
    log bigint NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    tag integer NOT NULL,
    "time" bigint NOT NULL,
    came bigint NOT NULL,
    print bigint
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='2000', autovacuum_vacuum_cost_delay='1');
CREATE SEQUENCE version2.log
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE version2.place (
    one boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    floor bigint DEFAULT 0 NOT NULL,
    version integer NOT NULL,
    keep bigint[] NOT NULL,
    CONSTRAINT place_one_check CHECK (one)
);
CREATE FUNCTION version2.append(channel text, data jsonb, name text DEFAULT NULL::text, time_ms bigint DEFAULT NULL::bigint, key text DEFAULT NULL::text, notify boolean DEFAULT true) RETURNS text
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.append_text(channel text, data text, name text DEFAULT NULL::text, time_ms bigint DEFAULT NULL::bigint, key text DEFAULT NULL::text, notify boolean DEFAULT true) RETURNS text
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.drop_channel(p_channel text, p_lock_ms integer, p_sync text, OUT o_place bigint, OUT o_floor bigint) RETURNS record
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.lock_channel(p_channel text, p_now bigint) RETURNS version2.channel
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.read_page(p_channel text, p_now bigint, p_age bigint, p_start integer, p_epoch bigint, p_seq bigint, p_tag integer, p_events bigint, p_bytes bigint, OUT o_place bigint, OUT o_floor bigint, OUT o_epoch bigint, OUT o_seq bigint, OUT o_tag integer, OUT o_closed boolean, OUT o_earliest_seq bigint, OUT o_earliest_tag integer, OUT o_dropped_time bigint, OUT o_from_seq bigint, OUT o_from_tag integer, OUT o_at_tag integer, OUT o_last_match bigint, OUT o_seqs bigint[], OUT o_tags integer[], OUT o_prev_tags integer[], OUT o_appended bigint[], OUT o_times bigint[], OUT o_is_text boolean[], OUT o_names text[], OUT o_data bytea[]) RETURNS record
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.reap(p_log bigint, p_most bigint) RETURNS bigint
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.tidy(p_now bigint, p_keep bigint[], p_most bigint) RETURNS bigint
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2."trim"(c version2.channel, p_keep bigint[], p_now bigint, p_most bigint) RETURNS version2.channel
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.trim_channel(p_channel text, p_now bigint, p_keep bigint[]) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
CREATE FUNCTION version2.write_batch(p_channel text, p_now bigint, p_keep bigint[], p_lock_ms integer, p_sync text, p_init bigint, p_expect integer, p_epoch bigint, p_seq bigint, p_tag integer, p_close boolean, p_data bytea[], p_is_text boolean[], p_names text[], p_times bigint[], p_keys text[], p_tags integer[], p_prev_tags integer[], p_sizes integer[], p_bytes bigint, p_prints bigint[], OUT o_status integer, OUT o_epoch bigint, OUT o_seq bigint, OUT o_tag integer, OUT o_closed boolean, OUT o_base_seq bigint, OUT o_base_tag integer, OUT o_stamp bigint, OUT o_seqs bigint[], OUT o_tags integer[], OUT o_times bigint[], OUT o_nth bigint[], OUT o_fresh boolean[], OUT o_reused bigint) RETURNS record
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'of version 2'; END $$;
INSERT INTO version2.channel VALUES ('room', 1, 6428137222113644947, 44, 986558928, 900751177, false, 41, 0, NULL, 224, 1795914843533, 1795919343511, 1795914843511, 1795918443511);
INSERT INTO version2.channel VALUES ('closed', 2, -8619221635372578906, 42, -1874290152, 0, true, 41, 0, NULL, 71, 1795914843533, 1795919343533, 1795914843533, 1795918443533);
INSERT INTO version2.entry VALUES (1, 42, 1921534480, 0, 71, 1795914843511, 1795914843511, true, NULL, '\x6f6e65');
INSERT INTO version2.entry VALUES (1, 43, 900751177, 1921534480, 71, 1795914843531, 1795914843531, true, NULL, '\x74776f');
INSERT INTO version2.entry VALUES (1, 44, 986558928, 900751177, 82, 1795914843533, 1795914843533, false, 'message', '\x7b226e223a337d');
INSERT INTO version2.entry VALUES (2, 42, -1874290152, 0, 71, 1795914843533, 1795914843533, true, NULL, '\x78');
INSERT INTO version2.key VALUES (1, 'k1', 42, 1921534480, 1795914843511, 1795914843511, -7799045175178299973);
INSERT INTO version2.place VALUES (true, 81985529216486895, 42, 2, '{100000,1099511627776,3600000,86400000,600000}');
SELECT pg_catalog.setval('version2.log', 3, true);
ALTER TABLE ONLY version2.channel
    ADD CONSTRAINT channel_pkey PRIMARY KEY (name);
ALTER TABLE ONLY version2.entry
    ADD CONSTRAINT entry_pkey PRIMARY KEY (log, seq);
ALTER TABLE ONLY version2.garbage
    ADD CONSTRAINT garbage_pkey PRIMARY KEY (log);
ALTER TABLE ONLY version2.key
    ADD CONSTRAINT key_pkey PRIMARY KEY (log, key);
ALTER TABLE ONLY version2.place
    ADD CONSTRAINT place_pkey PRIMARY KEY (one);
CREATE INDEX channel_due ON version2.channel USING btree (due);
CREATE INDEX key_came ON version2.key USING btree (came);
