#!/bin/sh
# Makes what compose.yaml reads: deploy/.env with a new password for each server, and the key by which Prometheus
# scrapes. What exists already stays as it is. Then put HeadshotPro's two values into deploy/.env.
set -eu
usage='Usage: deploy/secrets.sh
Makes deploy/.env, with a new password for each server, and deploy/prometheus/headshot-mirror.key, the key of Prometheus.
What exists already stays as it is. It takes no argument.'
case "${1-}" in
  '') ;;
  -h | --help) echo "$usage"; exit ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
cd "$(dirname "$0")"

new() {
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

key=prometheus/headshot-mirror.key
if [ ! -e "$key" ]; then
  (umask 077 && new > "$key")
  echo "made deploy/$key"
fi
# Prometheus reads it as a user of its own, which compose.yaml puts into the group of the file.
chmod 640 "$key"
group=$(ls -ln "$key" | awk '{print $4}')
if [ ! -e .env ]; then
  umask 077
  cat > .env <<END
# HeadshotPro's: the API key of the organization, and the secret of its webhook.
HEADSHOTPRO_API_KEY=
HEADSHOTPRO_WEBHOOK_SECRET=

# Bearer keys of the API and of /metrics, with commas between them; docs/api.md says how each is written. Prometheus' key opens
# /metrics alone.
MIRROR_API_KEYS=prometheus=metrics:$(cat "$key")

# The group of prometheus/headshot-mirror.key.
KEY_GROUP=$group

# Of Postgres' owner, of Redis, of the login by which Grafana reads, and of Grafana's user admin. Postgres takes its two when
# its volume is made; a change here does not change them there.
POSTGRES_PASSWORD=$(new)
REDIS_PASSWORD=$(new)
READER_PASSWORD=$(new)
GRAFANA_PASSWORD=$(new)
END
  echo "made deploy/.env: put HEADSHOTPRO_API_KEY and HEADSHOTPRO_WEBHOOK_SECRET into it"
else
  # A release before this one may have asked for less.
  for line in "KEY_GROUP=$group" "REDIS_PASSWORD=$(new)"; do
    name=${line%%=*}
    if ! grep -q "^$name=" .env; then
      echo "$line" >> .env
      echo "added $name to deploy/.env"
    fi
  done
fi
# One that was made before the key's file had a group.
grep -q '^KEY_GROUP=' .env || echo "KEY_GROUP=$group" >> .env
