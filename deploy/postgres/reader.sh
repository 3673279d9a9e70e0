#!/bin/sh
# Runs once, when compose.yaml's Postgres is made: the login by which Grafana reads. `migrate` grants its role what
# there is to read.
set -eu
psql --set ON_ERROR_STOP=1 --set "password=$READER_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
create role headshotpro_reader nologin;
create role grafana login password :'password' in role headshotpro_reader;
SQL
