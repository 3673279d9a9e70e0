"""Outcomes of models, folded: counts by day and team, and what they hold of each model."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, Identity, Index, Integer, SmallInteger, Table
from sqlalchemy.dialects.postgresql import ARRAY

from service.storage.tables.columns import metadata, text_column

outcome_counts = Table(
    "outcome_counts",
    metadata,
    Column("day", Date, nullable=False, comment="The day, in UTC"),
    text_column("team_id", "The vendor's id of the team; null where it is not known"),
    Column("created", Integer, nullable=False, comment="How many models were created"),
    Column("active", Integer, nullable=False, comment="How many became ready"),
    Column("failed", Integer, nullable=False, comment="How many failed"),
    Column("deleted", Integer, nullable=False, comment="How many were deleted"),
    comment="Outcomes of folded models by day and team; read the view daily_outcomes, which adds the other models",
)
Index(None, outcome_counts.c.day, outcome_counts.c.team_id)

model_outcomes = Table(
    "model_outcomes",
    metadata,
    text_column("model_id", "The model", primary_key=True),
    text_column("team_id", "The team it is counted in"),
    Column("created_on", Date, comment="The day on which it is counted as created"),
    Column("active_on", ARRAY(Date), nullable=False, comment="The days counted as ready"),
    Column("failed_on", ARRAY(Date), nullable=False, comment="The days counted as failed"),
    Column("deleted_on", Date, comment="The day on which it is counted as deleted"),
    comment="What outcome_counts holds of each model",
)

stale_outcomes = Table(
    "stale_outcomes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the row"),
    text_column("model_id", "The model", nullable=False),
    comment="Models that are to be folded although no newer change names them",
)

outcome_progress = Table(
    "outcome_progress",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    Column("folded_to", BigInteger, nullable=False, comment="Changes up to this id are folded"),
    comment="How far outcomes are folded; locked by the one that folds",
)
