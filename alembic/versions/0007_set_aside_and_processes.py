"""records that a pull, GET or event could not use, and the heartbeats of processes.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    expand.lock("pulls")
    op.add_column(
        "pulls",
        sa.Column(
            "set_aside",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Records and fields that it could not read; table set_aside lists them",
        ),
        schema="headshotpro",
    )
    _set_aside()
    _processes()


def _set_aside() -> None:
    op.create_table(
        "set_aside",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order in which they were found"
        ),
        sa.Column("found_at", TIME, nullable=False, comment="When it was found first"),
        sa.Column("pull_id", sa.BigInteger(), nullable=True, comment="The pull that found it; null for a GET or event"),
        sa.Column(
            "model_id", sa.Text(), nullable=True, comment="The model it is about; null where the id is unreadable"
        ),
        sa.Column(
            "fields",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="Names of the fields that were treated as absent; empty where the whole record was",
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why they could not be used; it holds no values"),
        sa.Column(
            "resolved_at",
            TIME,
            nullable=True,
            comment="When a complete pull read the model again; null while it is open",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("set_aside_pkey")),
        schema="headshotpro",
        comment="What a pull, GET or event could not use; one open row for each model, fields and reason",
    )
    op.create_index(
        "set_aside_open_idx",
        "set_aside",
        [sa.text("coalesce(model_id, '')"), "fields", "reason"],
        unique=True,
        schema="headshotpro",
        postgresql_where=sa.text("resolved_at IS NULL"),
    )


def _processes() -> None:
    op.create_table(
        "processes",
        sa.Column("name", sa.Text(), nullable=False, comment="Host, process number and a random part: unique"),
        sa.Column("kind", sa.Text(), nullable=False, comment="web, worker or clock"),
        sa.Column("host", sa.Text(), nullable=False, comment="Name of the machine it runs on"),
        sa.Column("version", sa.Text(), nullable=False, comment="Version of headshot-mirror that it runs"),
        sa.Column("started_at", TIME, nullable=False, comment="When it started"),
        sa.Column("seen_at", TIME, nullable=False, comment="When its last heartbeat arrived, by Postgres' clock"),
        sa.PrimaryKeyConstraint("name", name=op.f("processes_pkey")),
        schema="headshotpro",
        comment="Processes that run now: each sends a heartbeat every five seconds and removes its row when it stops",
    )
