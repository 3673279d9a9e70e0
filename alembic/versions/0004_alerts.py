"""the outbox of alerts, and what their watch remembers.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    expand.create_index("pulls_held_idx", "pulls", ["id"], postgresql_where=sa.text("status = 'held'"))
    expand.lock("alerts")
    op.add_column(
        "alerts",
        sa.Column(
            "last_notice_at", TIME, nullable=True, comment="When a notice of it, or a reminder, was last handed out"
        ),
        schema="headshotpro",
    )
    _watch()
    _outbox()


def _watch() -> None:
    op.create_table(
        "alert_watch",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="1: there is one row"),
        sa.Column(
            "looking_since",
            TIME,
            nullable=True,
            comment="Since when the mirror looks at the vendor; what happened before is the past",
        ),
        sa.Column(
            "past_until",
            TIME,
            nullable=True,
            comment="End of the first complete full pull: whatever it did not show is news",
        ),
        sa.Column("past_summed_at", TIME, nullable=True, comment="When the one notice about the past was written"),
        sa.Column("key_refused_at", TIME, nullable=True, comment="When the vendor last refused the API key"),
        sa.Column("key_refused_status", sa.SmallInteger(), nullable=True, comment="With which HTTP status"),
        sa.Column("key_accepted_at", TIME, nullable=True, comment="When the vendor took the key again"),
        sa.PrimaryKeyConstraint("id", name=op.f("alert_watch_pkey")),
        schema="headshotpro",
        comment="What the watch for alerts remembers; one row",
    )
    op.execute("INSERT INTO headshotpro.alert_watch (id) VALUES (1)")


def _outbox() -> None:
    op.create_table(
        "notices",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order in which they were made"
        ),
        sa.Column(
            "what",
            sa.Text(),
            nullable=False,
            comment="opened, resolved, reminder or past (what was failed before the mirror looked)",
        ),
        sa.Column("alert_id", sa.BigInteger(), nullable=True, comment="The alert; null: the past"),
        sa.Column("made_at", TIME, nullable=False, comment="When it was written, in the transaction of what it tells"),
        sa.Column(
            "released_at",
            TIME,
            nullable=True,
            comment="When it was handed out to the receivers, together with all others of its time",
        ),
        sa.Column(
            "detail",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Of the past: counts and the first ids",
        ),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["headshotpro.alerts.id"], name=op.f("notices_alert_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("notices_pkey")),
        schema="headshotpro",
        comment="What people have to be told; ids alone, never names",
    )
    op.create_index(
        "notices_waiting_idx",
        "notices",
        ["made_at"],
        schema="headshotpro",
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_index(op.f("notices_alert_id_idx"), "notices", ["alert_id"], schema="headshotpro")
    op.create_table(
        "receivers",
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="A digest of its URL in ALERT_URLS, which holds secrets and is never stored",
        ),
        sa.Column("is_set", sa.Boolean(), nullable=False, comment="Whether ALERT_URLS names it now"),
        sa.Column(
            "retry_at",
            TIME,
            nullable=False,
            comment="When it may be tried next; a process that has it in hand sets it ahead",
        ),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="How often in a row it took nothing",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="What came back last, where it took nothing"),
        sa.PrimaryKeyConstraint("digest", name=op.f("receivers_pkey")),
        schema="headshotpro",
        comment="Who is told of alerts",
    )
    op.create_table(
        "notice_deliveries",
        sa.Column("receiver", sa.Text(), nullable=False, comment="Who is told"),
        sa.Column("notice_id", sa.BigInteger(), nullable=False, comment="Of what"),
        sa.Column("sent_at", TIME, nullable=True, comment="When the receiver took it; null: it is still to be sent"),
        sa.ForeignKeyConstraint(
            ["notice_id"],
            ["headshotpro.notices.id"],
            name=op.f("notice_deliveries_notice_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["receiver"],
            ["headshotpro.receivers.digest"],
            name=op.f("notice_deliveries_receiver_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("receiver", "notice_id", name=op.f("notice_deliveries_pkey")),
        schema="headshotpro",
        comment="The outbox: each notice for each receiver",
    )
    op.create_index(
        "notice_deliveries_unsent_idx",
        "notice_deliveries",
        ["receiver"],
        schema="headshotpro",
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.create_index(op.f("notice_deliveries_notice_id_idx"), "notice_deliveries", ["notice_id"], schema="headshotpro")
