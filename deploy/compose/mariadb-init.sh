#!/bin/sh
# MariaDB's first start: the user of docs/grants.md, for a migration from or to it; `shop` is its database.
set -eu
password=$(cat /run/secrets/mariadb_password)
MYSQL_PWD=$(cat /run/secrets/mariadb_root) mariadb -uroot <<SQL
CREATE USER crossfade IDENTIFIED BY '$password';
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO crossfade;
GRANT SELECT, REFERENCES ON shop.* TO crossfade;
GRANT CREATE, SELECT, INSERT, UPDATE, DELETE, DROP ON shop.crossfade_marker TO crossfade;
GRANT CREATE, SELECT, INSERT, UPDATE, DELETE, DROP, ALTER, INDEX, CREATE TEMPORARY TABLES ON crossfade.* TO crossfade;
GRANT CREATE TEMPORARY TABLES, INSERT, UPDATE, DELETE, DROP, TRIGGER, CREATE, ALTER, INDEX ON shop.* TO crossfade;
SQL
