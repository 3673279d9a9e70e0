"""A mirror for the console's pages: something of everything, and texts that attack whoever shows them."""

from __future__ import annotations

import json
from typing import Any

import psycopg

# Each would run, load or break something where it were taken for markup, a template or an address.
ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "</script><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "<style>*{display:none}</style>",
    "<form action=https://evil.example><button hx-get=https://evil.example hx-trigger=load>",
    "\u202etxt.exe\x1b[31m",
    "&lt;b&gt; &amp; '\"",
)
MODEL = "0123456789abcdef01234567"
HOSTILE_MODEL = '"><script>alert(2)</script>'
EVENT = "evt_of_the_console"
HOSTILE_EVENT = "evt_/../<img src=x onerror=alert(3)>?a=b#c"

_MODELS = """
    insert into headshotpro.models (id, uid, email, title, status, team_id, team_name, is_development, created_at,
        finished_at, photo_count, trigger, observed_at, updated_at)
    select id, 'uid' || n, n || '@example.com', title,
        (array['active', 'failed', 'pending', 'deleted', 'onboarding'])[1 + n %% 5], 'team' || n %% 3, 'Team ' || title,
        n %% 2 = 0, now() - make_interval(hours => n), now(), n, 'female', now(), now()
    from unnest(%s::text[], %s::text[], %s::int[]) as made (id, title, n)
"""
_CHANGES = """
    insert into headshotpro.model_changes
        (model_id, from_status, to_status, changed, source, event_id, observed_at, recorded_at)
    select %s, null, 'pending', %s::jsonb, 'webhook', %s, now() - interval '2 hours', now() - interval '2 hours'
    union all
    select %s, 'pending', 'failed', %s::jsonb, 'pull', null, now() - interval '1 hour', now() - interval '1 hour'
"""
_EVENTS = """
    insert into headshotpro.webhook_events
        (id, event, model_id, status, error, payload, created_at, received_at, signed_at, processed_at, deliveries)
    select id, 'model.status.updated', %s, (array['applied', 'dead', 'stale', 'ignored'])[1 + n %% 4],
        case n %% 4 when 1 then 'cannot be applied: ' || id end, %s::jsonb,
        at, at, now(), at + interval '80 ms', n
    from unnest(%s::text[], %s::int[]) as made (id, n), lateral (select now() - make_interval(mins => n) as at) as past
"""
_REST = """
    insert into headshotpro.pulls (kind, status, started_at, finished_at, requests, pages, models_seen, error)
    values ('full', 'complete', now() - interval '3 hours', now() - interval '3 hours', 4, 4, 300, null),
        ('hot', 'failed', now() - interval '1 hour', now() - interval '1 hour', 2, 1, 10, %(attack)s),
        ('full', 'held', now() - interval '10 minutes', now(), 4, 4, 200, '61 suspects, more than TOMBSTONE_LIMIT'),
        ('hot', 'running', now(), null, 1, 1, 40, null);
    insert into headshotpro.alerts (kind, model_id, opened_at, resolved_at, acknowledged_at, detail)
    values ('model_failed', %(model)s, now(), null, null, %(detail)s), ('pull_stale', null, now(), null, now(), '{}'),
        ('model_stuck', %(hostile)s, now() - interval '2 days', now(), null, %(detail)s);
    insert into headshotpro.receivers (digest, is_configured, retry_at, failures, error)
    values ('0123456789abcdef01234567', true, now(), 3, %(attack)s), ('76543210', false, now(), 0, null);
    insert into headshotpro.set_aside (found_at, model_id, fields, reason)
    values (now(), %(model)s, array[%(attack)s], %(attack)s), (now(), null, '{}', 'the record has no id');
    insert into headshotpro.set_aside (found_at, model_id, fields, reason, resolved_at)
    values (now() - interval '1 day', %(model)s, '{title}', 'was a number', now());
    insert into headshotpro.held_suspects (pull_id, model_id)
    select id, model_id from headshotpro.pulls, unnest(array[%(model)s, %(hostile)s]) as model_id where status = 'held';
    insert into headshotpro.accuracy_checks
        (checked_at, method, pull_id, model_id, stratum, agreed, fields, class, event_id, stale_seconds, censored)
    values (now(), 'census', 1, %(model)s, 'moving', false, array['status', %(attack)s], 'lost', null, 90, true),
        (now(), 'sample', null, %(hostile)s, 'active_old', true, '{}', null, null, null, null),
        (now(), 'census', 3, %(hostile)s, 'moving', false, '{title}', 'late', %(attack)s, 12, false);
    insert into headshotpro.accuracy_figures (period, fields, compared, wrong, rate, lower_95, upper_95, late_webhooks,
        lost_webhooks, unexplained, last_check_at, slo_target, slo_met, computed_at)
    select period, fields, 10000, 1, 0.0001, 0.00001, 0.0005, 1, 1, 0, now(), 0.0001, met, now()
    from unnest(array['1h', '24h', '28d'], array[null, false, true]) as periods (period, met),
        unnest(array['list', 'detail']) as fields;
    update headshotpro.pulls set rows_compared = 300, rows_differed = 1, lost_webhooks = 1, set_aside = 1
    where kind = 'full';
    insert into headshotpro.pulls (kind, status, started_at, finished_at, rows_compared, rows_differed)
    select 'full', 'complete', at, at, 1000, extract(hour from at)::int %% 3
    from generate_series(now() - interval '5 days', now() - interval '1 day', '4 hours') as at;
    insert into headshotpro.processes (name, kind, host, version, started_at, seen_at)
    select kind || %(attack)s, kind, %(attack)s, '0.1.0', now() - interval '1 day', now()
    from unnest(array['web', 'worker', 'clock']) as kind;
    insert into headshotpro.status_samples (at, models)
    select at, jsonb_build_object('active', 200 + extract(epoch from at)::bigint %% 50, 'failed', 3, %(attack)s, 7)
    from generate_series(now() - interval '30 days', now(), '1 hour') as at;
    insert into headshotpro.subscriptions (name, url, statuses, teams, with_personal_data, batch, state, reason, cursor,
        read_to, delivered, created_at, delivered_at, failed_at, failed_status, failed_reason, secret, recent_requests)
    values ('orders', 'https://orders.internal/' || repeat('a-long-path/', 9), array['active', %(attack)s],
        array[%(attack)s], true, null, 'active', null, 1, 3, 4711, now() - interval '9 days', now(), now(), 503,
        %(attack)s, 'whsec_none', %(requests)s),
        ('billing', 'http://127.0.0.1:9/', null, null, false, 25, 'disabled', %(attack)s, 3, 2, 0, now(), null, now(),
        410, 'the receiver wants no more', 'whsec_none', '[]');
    insert into headshotpro.subscription_deliveries
        (subscription_id, change_id, model_id, attempts, first_failed_at, due_at, status, error)
    values (1, 1, %(model)s, 3, now() - interval '1 hour', now() + interval '1 minute', 503, %(attack)s),
        (1, 2, %(hostile)s, 0, null, null, null, null);
    insert into headshotpro.tasks (kind, status, search, total, done, failed, audit_id, created_at, moved_at, error)
    values ('replay', 'running', %(detail)s, 5000, 1200, 3, 1, now() - interval '1 minute', now(), null);
    insert into headshotpro.audit_log (at, actor, actor_kind, address, action, target, outcome, detail)
    values (now(), %(attack)s, 'api', '192.0.2.1', 'model.delete', %(hostile)s, 'done', %(detail)s)
"""


def fill(url: str) -> None:
    """Put it into an empty database."""
    ids = [MODEL, HOSTILE_MODEL, *(f"{number:024x}" for number in range(60))]
    titles = [ATTACKS[number % len(ATTACKS)] for number in range(len(ids))]
    document = {
        "id": EVENT, "event": "model.status.updated", "note": list(ATTACKS), "<b>key</b>": "javascript:alert(1)",
        "object": {"_id": MODEL, "title": ATTACKS[0], "email": "ann@example.com", "status": "failed"},
    }  # fmt: skip
    changed = {"status": [None, "pending"], "title": [None, ATTACKS[1]], "email": [None, "ann@example.com"]}
    detail = json.dumps({ATTACKS[1]: ATTACKS[0]})
    sent = {"at": "2026-03-09T14:30:00.000+00:00", "change_id": 1, "changes": 1, "attempt": 3, "ms": 15000.0}
    requests = json.dumps(
        [{**sent, "status": None, "error": ATTACKS[0]}, {**sent, "status": 204, "ms": 12.5, "error": None}]
    )
    values: dict[str, Any] = {
        "attack": ATTACKS[0],
        "model": MODEL,
        "hostile": HOSTILE_MODEL,
        "detail": detail,
        "requests": requests,
    }
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(_MODELS, [ids, titles, list(range(len(ids)))])
        for model in (MODEL, HOSTILE_MODEL):
            failed = json.dumps({"status": ["pending", "failed"]})
            cursor.execute(_CHANGES, [model, json.dumps(changed), EVENT, model, failed])
        events = [EVENT, HOSTILE_EVENT, *(f"evt_{number}" for number in range(70))]
        cursor.execute(_EVENTS, [MODEL, json.dumps(document), events, list(range(len(events)))])
        cursor.execute(_REST, values)
