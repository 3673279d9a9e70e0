"""The vendor on this machine: HeadshotPro's API and its webhook sender, faithful enough to develop against.

Started by `headshot-mirror sandbox` or `python -m service.local.sandbox`; `--help` lists the options. The first line on
stdout is JSON: `url` (with `/api/v2`), `api_key`, `webhook_secret`. With `--state FILE` models, deliveries that wait,
key, secret, webhook URL and credits outlive the process, also one that is killed. SIGTERM ends it at once.

What it does where the vendor's pages are silent: `limit` over 200 counts as 200; an unknown status or team in a
filter finds nothing; another method or path is 404; a request that the limit refuses costs nothing; a rate window
begins with its first request; 401 spends nothing of the limit. The webhook's waits follow one another (5 min, then 15
min, then 1 h).

The control API lies beside it under `/_sandbox`: JSON, no key, never hostile. Fields of models are named as in the
API.

- `GET /_sandbox/models`, `GET /_sandbox/models/ID`: the truth, deleted and vanished models included: the fields of
  list, single GET and webhook (`organization`, `trigger`, …), and `vanished`.
- `POST /_sandbox/models` `{n?, events?, …fields}`: new models, without webhooks unless `events` is true; answers the
  list of them. Fields that are not given are plausible; without `status` they are `onboarding`.
- `PATCH /_sandbox/models/ID` `{events?, …fields}`: set fields. A new `status` brings what it brings in life
  (`finishedAt`, `photoCount`, `deletedAt`) unless given too. With `events` true the webhooks that the vendor has for
  such a change are sent: for a status `model.status.updated` (and `model.photos_ready` or `model.deleted`), for
  `favoritePhotoId` `model.favorite_selected`, for anything else none.
- `DELETE /_sandbox/models/ID`: let it vanish without a word: in no list, 404. With `?events=1`: the vendor's own
  DELETE.
- `POST /_sandbox/events` `{event, modelId?, object?, id?, createdAt?, form?, timestamp?}`: send any event now,
  whatever the switches say: `object` overrides fields of the model's, `form` is `full` or `bare`, `timestamp` is
  signed instead of the present. Answers `{id}`.
- `GET /_sandbox/requests`: `{total, connections, requests: [{method, route, status, count}]}` of the API since the
  start or since `DELETE /_sandbox/requests`; status 0 is a connection that was dropped on purpose.
- `GET /_sandbox/deliveries`: `sent` (requests), `acknowledged`, `refused` (requests), `given_up`, `lost`, `waiting`.
- `GET /_sandbox/hostile`, `POST /_sandbox/hostile` `{switch: value, …}`: switches are the options named as in
  `switches.py` (`loss`, `errors`, `drift`, `slow`, `quiet`, `births`, `rate`, `replica_lag`, …); all are turned or
  none.
- `POST /_sandbox/webhook` `{url?, secret?}`: another receiver or secret, at once; a null URL stops the sender.
- `POST /_sandbox/organization` `{uid?, id?, name?, website?, teams?}`: whose key it is.
- `POST /_sandbox/reset` `{models?, seed?, credits?, api_key?, webhook_secret?, webhook_url?, switch: value, …}`: begin
  anew, with the defaults of the command line for what is not given: nothing of before is left, no model, no count, no
  delivery that waits. Answers `{api_key, webhook_secret}`. 400 with a state file, which only a new process opens.

Errors are 400 or 404 with `{"success": false, "error": words}`.
"""
