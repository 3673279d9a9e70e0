"""The vendor on this machine: HeadshotPro's API and its webhook sender, faithful enough to develop against.

Started by `headshot-mirror sandbox` or `python -m service.local.sandbox`; `--help` lists the options. The first line on
stdout is JSON: `url` (with `/api/v2`), `api_key`, `webhook_secret`. With `--state FILE` models, deliveries that wait,
key, secret, webhook URL and credits outlive the process, also one that is killed. SIGTERM ends it at once.

What it does where the vendor's pages are silent: `limit` over 200 counts as 200; an unknown status or team in a
filter finds nothing; another method or path is 404; a request that the limit refuses costs nothing; a rate window
begins with its first request; 401 spends nothing of the limit. The webhook's waits follow one another (5 min, then 15
min, then 1 h).
"""
