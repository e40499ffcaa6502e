#!/bin/sh
# Makes a password for each role of docker-compose.yml, once. The folder is the operator's alone; the files in it are readable, because
# the containers' users, which have other numbers than the operator, read them.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
for name in source_superuser target_superuser mariadb_root source_password target_password mariadb_password; do
    # no newline at the end: Connect takes the file as it is
    [ -s "secrets/$name" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "secrets/$name"
    chmod 644 "secrets/$name"
done
