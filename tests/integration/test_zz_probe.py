import time, json, subprocess, sys, os
from service.config import environment
def test_probe(sandbox, database_url, empty_database_url, redis_url, folder):
    sb = sandbox(models=30, quiet=True, rate=0)
    def run(*a, **env):
        t=time.time()
        e = environment(**{**dict(DATABASE_URL=database_url, REDIS_URL=redis_url, HEADSHOTPRO_API_URL=sb.url, HEADSHOTPRO_API_KEY=sb.api_key, HEADSHOTPRO_WEBHOOK_SECRET=sb.webhook_secret), **env})
        p = subprocess.run([sys.executable,"-m","service.cli",*a], cwd=folder, env=e, capture_output=True, text=True, timeout=60)
        print("=====", a, env, p.returncode, round(time.time()-t,2)); print(p.stdout[-2500:]); print("--err"); print(p.stderr[-1800:])
    run("--help"); run("pull","--help"); run("pull"); run("pull","--hot"); run("pulls","list","--json"); run("pulls","list")
    run("events","list"); run("events","list","--json"); run("events","show","x"); run("status","--json"); run("status")
    run("doctor"); run("doctor","--json")
    for c in (("status",),("pulls","list"),("events","list"),("pull",),("doctor",)): run(*c, DATABASE_URL=empty_database_url)
    run("status", REDIS_URL="redis://127.0.0.1:1/0"); run("status", DATABASE_URL="postgresql://u:pw@127.0.0.1:1/x"); run("status","--json", DATABASE_URL="postgresql://u:pw@127.0.0.1:1/x", REDIS_URL="redis://127.0.0.1:1/0")
    run("pull", HEADSHOTPRO_API_KEY="wrong"); run("doctor", HEADSHOTPRO_API_KEY="wrong", HEADSHOTPRO_WEBHOOK_SECRET=None)
    run("nonsense"); run("pull","--nonsense"); run("pull", REDIS_URL=None); run("migrate", DATABASE_URL=empty_database_url); run("migrate")
    run("pulls"); run("clock","--help"); run("pull", DATABASE_URL="postgresql://u:pw@127.0.0.1:1/x"); run("pull", REDIS_URL="redis://127.0.0.1:1/0"); run("doctor", DATABASE_URL="postgresql://u:pw@127.0.0.1:1/x", REDIS_URL="redis://127.0.0.1:1/0", HEADSHOTPRO_API_URL="http://127.0.0.1:1/api/v2")
