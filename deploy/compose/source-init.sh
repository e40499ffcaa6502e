#!/bin/sh
# The source's first start: an application's tables with some rows, and the role of docs/grants.md that crossfade reads them with.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$(cat /run/secrets/source_password)" -U postgres -d shop <<'SQL'
CREATE ROLE app NOLOGIN;
GRANT USAGE, CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL,
  email text UNIQUE, status char(1) NOT NULL DEFAULT 'A' CHECK (status IN ('A', 'I')));
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customer,
  total numeric(12, 2) NOT NULL, placed_at timestamptz NOT NULL DEFAULT now());
INSERT INTO customer (first_name, last_name, email)
  SELECT 'First' || n, 'Last' || n, 'c' || n || '@example.com' FROM generate_series(1, 10000) n;
INSERT INTO orders (customer_id, total) SELECT 1 + n % 10000, (n % 9999) / 100.0 FROM generate_series(1, 50000) n;
RESET ROLE;
CREATE ROLE crossfade LOGIN REPLICATION PASSWORD :'password';
GRANT USAGE ON SCHEMA public TO crossfade;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO crossfade;
GRANT CREATE ON DATABASE shop TO crossfade;
GRANT app TO crossfade;
SQL
