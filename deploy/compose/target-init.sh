#!/bin/sh
# The target's first start: the role of docs/grants.md that crossfade writes with.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$(cat /run/secrets/target_password)" -U postgres -d crm <<'SQL'
CREATE ROLE crossfade LOGIN PASSWORD :'password';
GRANT CREATE, TEMPORARY ON DATABASE crm TO crossfade;
GRANT USAGE, CREATE ON SCHEMA public TO crossfade;
GRANT SET ON PARAMETER session_replication_role TO crossfade;
SQL
