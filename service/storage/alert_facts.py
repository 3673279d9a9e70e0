"""The facts for the rules of alerts, read set-based in a handful of statements, all as of one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.storage import pulls, queries
from service.storage.accuracy_figures import FRESH_FOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


def evaluator_state(connection: Connection) -> dict[str, Any]:
    """The facts in the row of `alert_evaluator`, brought up to date: when the mirror began, what the upstream said.

    The minute is for deliveries on their way: the first one is about something that has just happened.
    `first_summary_is_due`: the first pull has ended, and nothing was written yet about what it found.
    """
    queries.run(connection, _UPDATE_STATE)
    return queries.rows(connection, _STATE)[0]


_STATE = """
    SELECT now() AS now, observing_since, key_refused_at AS refused_at, key_refused_status AS refused_status,
        key_accepted_at AS accepted_at, clock_skewed_at AS skewed_at, clock_skew_seconds AS skew_seconds,
        clock_agreed_at AS agreed_at,
        first_pull_finished_at IS NOT NULL AND first_summary_at IS NULL AS first_summary_is_due
    FROM headshotpro.alert_evaluator
"""
_UPDATE_STATE = """
    UPDATE headshotpro.alert_evaluator SET
        observing_since = coalesce(observing_since, least(
            now(),
            (SELECT min(started_at) FROM headshotpro.pulls),
            (SELECT min(received_at) FROM headshotpro.webhook_events)
        ) - interval '1 minute'),
        first_pull_finished_at = (
            SELECT min(finished_at) FROM headshotpro.pulls WHERE kind = 'full' AND status = 'complete'
        )
    WHERE first_pull_finished_at IS NULL AND (
        observing_since IS NULL
        OR EXISTS (SELECT FROM headshotpro.pulls WHERE kind = 'full' AND status = 'complete')
    )
"""


def models(
    connection: Connection, moving: Sequence[str], stuck_after: float, development_share: float, too_many: int
) -> list[dict[str, Any]]:
    """Models that may be a reason for an alert, and those with an open one.

    Args:
        connection: a transaction in which `evaluator_state` was called.
        moving: the statuses in which a model may be stuck.
        stuck_after: seconds after which a model is stuck.
        development_share: the part of them after which a development model is.
        too_many: this many failures within a day are a reason, whatever its status is now.

    Returns:
        For each: `model_id`, `status`, `is_development`, `created_at`, `since`, `found_at_first_check`, `failures`.
    """
    return queries.rows(
        connection,
        _MODELS,
        moving=list(moving),
        stuck_after=stuck_after,
        development_share=development_share,
        too_many=too_many,
    )


# `entered` is the change that brought the model into its status; where history no longer has it, the status is older
# than all that is kept. A failure that the first pull found is not one that happened within the day.
_MODELS = """
    WITH failing AS MATERIALIZED (
        SELECT model_id, count(*) AS failures, max(id) AS last_id FROM headshotpro.model_changes
        WHERE to_status = 'failed' AND observed_at > now() - interval '1 day'
            AND (from_status IS NOT NULL OR source = 'webhook')
        GROUP BY model_id
    ), relevant AS (
        SELECT model_id FROM failing WHERE failures >= :too_many
        UNION SELECT model_id FROM headshotpro.alerts WHERE resolved_at IS NULL AND model_id IS NOT NULL
    ), m AS (
        SELECT id, status, is_development, created_at, updated_at FROM headshotpro.models WHERE status = 'failed'
        UNION
        SELECT id, status, is_development, created_at, updated_at FROM headshotpro.models
        WHERE status = ANY(CAST(:moving AS text[]))
            AND (created_at IS NULL OR created_at <= now() - make_interval(secs => :stuck_after * :development_share))
        UNION
        SELECT id, status, is_development, created_at, updated_at
        FROM headshotpro.models JOIN relevant ON relevant.model_id = models.id
    )
    SELECT * FROM (
        SELECT m.id AS model_id, m.status, coalesce(m.is_development, false) AS is_development, m.created_at,
            coalesce(least(entered.observed_at, entered.recorded_at), m.updated_at) AS since,
            entered.recorded_at IS NULL OR (
                entered.recorded_at <= coalesce(w.first_pull_finished_at, 'infinity')
                AND CASE WHEN entered.source = 'webhook' THEN entered.observed_at < w.observing_since
                    ELSE entered.from_status IS NULL END
            ) AS found_at_first_check,
            CASE WHEN failing.last_id > coalesce(well.last_id, 0) THEN failing.failures ELSE 0 END AS failures
        FROM m
        CROSS JOIN headshotpro.alert_evaluator AS w
        LEFT JOIN LATERAL (
            SELECT c.observed_at, c.recorded_at, c.from_status, c.source FROM headshotpro.model_changes AS c
            WHERE c.model_id = m.id AND c.to_status IS NOT NULL ORDER BY c.id DESC LIMIT 1
        ) AS entered ON true
        LEFT JOIN failing ON failing.model_id = m.id
        LEFT JOIN LATERAL (
            SELECT max(c.id) AS last_id FROM headshotpro.model_changes AS c
            WHERE failing.failures >= :too_many AND c.model_id = m.id AND c.to_status IN ('active', 'deleted')
        ) AS well ON true
    ) AS fact
    -- Most models that move did so a moment ago: there may be tens of thousands, and none of them is stuck.
    WHERE status <> ALL(CAST(:moving AS text[])) OR found_at_first_check
        OR since <= now() - make_interval(
            secs => :stuck_after * CASE WHEN is_development THEN :development_share ELSE 1 END
        ) OR model_id IN (SELECT model_id FROM relevant)
"""


def mirror(connection: Connection, seconds: float) -> dict[str, Any]:
    """The facts about the mirror as a whole; missed webhooks are those of pulls of the last `seconds`."""
    (found,) = queries.rows(connection, _MIRROR, seconds=seconds)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return {**values, "failing_pulls": tuple(pulls.failing(connection))}


_MIRROR = """
    WITH missing AS (
        SELECT missed_webhooks FROM headshotpro.pulls
        WHERE kind IN ('full', 'hot') AND started_at > now() - make_interval(secs => :seconds) AND missed_webhooks > 0
    )
    SELECT
        (SELECT finished_at FROM headshotpro.pulls
            WHERE kind = 'full' AND status = 'complete' ORDER BY started_at DESC LIMIT 1) AS last_complete_at,
        (SELECT count(*) FROM missing) AS pulls_that_missed,
        (SELECT coalesce(sum(missed_webhooks), 0) FROM missing) AS missed,
        (SELECT count(*) FROM headshotpro.webhook_events
            WHERE received_at > now() - make_interval(secs => :seconds)) AS events,
        EXISTS (
            SELECT FROM headshotpro.alerts AS a JOIN headshotpro.webhook_events AS e ON e.received_at > a.opened_at
            WHERE a.kind = 'webhooks_missing' AND a.resolved_at IS NULL
        ) AS event_since_opened,
        (SELECT count(*) FROM headshotpro.webhook_events WHERE status = 'dead') AS dead_events,
        ARRAY(
            SELECT id FROM headshotpro.webhook_events WHERE status = 'dead' ORDER BY received_at, id LIMIT 5
        ) AS dead_event_ids,
        ARRAY(SELECT id FROM headshotpro.pulls WHERE status = 'held' AND pages > 0 ORDER BY id) AS held_pulls,
        ARRAY(SELECT id FROM headshotpro.pulls WHERE status = 'held' AND pages = 0 ORDER BY id) AS foreign_pulls,
        (SELECT max(error) FROM headshotpro.pulls WHERE status = 'held' AND pages = 0) AS foreign_reason,
        (SELECT max(seen_at) FROM headshotpro.processes WHERE kind = 'worker') AS worker_seen_at,
        (SELECT min(received_at) FROM headshotpro.event_spool) AS spooled_since,
        (SELECT count(*) FROM headshotpro.set_aside WHERE resolved_at IS NULL) AS set_aside,
        ARRAY(
            SELECT DISTINCT model_id FROM headshotpro.set_aside WHERE resolved_at IS NULL AND model_id IS NOT NULL
            ORDER BY model_id LIMIT 5
        ) AS set_aside_models,
        ARRAY(
            SELECT name FROM headshotpro.subscriptions WHERE state IN ('failing', 'disabled') ORDER BY name
        ) AS failing_subscriptions
"""


def measured_errors(connection: Connection) -> list[dict[str, Any]]:
    """The mirror's own error in the fields of the list, for each period; nothing where no worker computes it any more.

    Returns:
        For each: `period`, `lower_95`, `slo_target`, `unexplained`.
    """
    statement = (
        "SELECT period, lower_95, slo_target, unexplained FROM headshotpro.accuracy_figures "
        "WHERE fields = 'list' AND computed_at >= now() - CAST(:fresh_for AS interval)"
    )
    return queries.rows(connection, statement, fresh_for=FRESH_FOR)


def record_key_response(connection: Connection, status: int, *, refused: bool) -> None:
    """Store whether the upstream accepted our key; an acceptance only after a refusal."""
    queries.run(connection, _REFUSED if refused else _ACCEPTED, status=status)


_REFUSED = "UPDATE headshotpro.alert_evaluator SET key_refused_at = now(), key_refused_status = :status"
_ACCEPTED = (
    "UPDATE headshotpro.alert_evaluator SET key_accepted_at = now() "
    "WHERE key_refused_at > coalesce(key_accepted_at, '-infinity')"
)


def record_clock_skew(connection: Connection, seconds: float | None) -> None:
    """Note how far the upstream's clock is off, or (None) that it agrees again."""
    queries.run(connection, _AGREED if seconds is None else _SKEWED, seconds=seconds)


_SKEWED = "UPDATE headshotpro.alert_evaluator SET clock_skewed_at = now(), clock_skew_seconds = :seconds"
_AGREED = (
    "UPDATE headshotpro.alert_evaluator SET clock_agreed_at = now() "
    "WHERE clock_skewed_at > coalesce(clock_agreed_at, '-infinity')"
)
