"""The one list of model facts: what is put into it arrives everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from service.config import environment

WHEN = "2024-01-01 10:00:00+00:00"


@pytest.fixture
def printed(database_url: str, redis_url: str) -> Any:
    """The output of `tests.support.made_up`: another process, because modules read the list when they are imported."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.made_up", database_url, redis_url],
        env=environment(LOG_LEVEL="error"),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_made_up_field_arrives_through_every_source(printed: Any) -> None:
    assert printed["first pull"] == {
        "row": {"mood": "calm", "invited_on": None, "is_manager": False, "smile_count": None},
        "list": {"mood": "calm", "isManager": False},
        "single": {"mood": "calm", "isManager": False},
        "change": {"mood": [None, "calm"], "is_manager": [None, False]},
        "source": "pull",
    }
    assert printed["second pull"] == {
        "row": {"mood": "glad", "invited_on": None, "is_manager": True, "smile_count": None},
        "list": {"mood": "glad", "isManager": True},
        "single": {"mood": "glad", "isManager": True},
        "change": {"mood": ["calm", "glad"], "is_manager": [False, True]},
        "source": "pull",
    }
    assert printed["single GET"] == {
        "row": {"mood": "jolly", "invited_on": None, "is_manager": True, "smile_count": 4},
        "list": {"mood": "jolly", "isManager": True},
        "single": {"mood": "jolly", "isManager": True, "smileCount": 4},
        "change": {"mood": ["glad", "jolly"], "smile_count": [None, 4]},
        "source": "refetch",
    }
    assert printed["webhook"] == {
        "row": {"mood": "merry", "invited_on": WHEN, "is_manager": True, "smile_count": 4},
        "list": {"mood": "merry", "isManager": True},
        "single": {"mood": "merry", "isManager": True, "smileCount": 4},
        "change": {"mood": ["jolly", "merry"], "invited_on": [None, WHEN.replace(" ", "T")]},
        "source": "webhook",
    }
    # Of the other model a webhook is the first to report, and a GET is the next.
    assert printed["first webhook"] == {
        "row": {"mood": "aloof", "invited_on": None, "is_manager": None, "smile_count": None},
        "list": {"mood": "aloof"},
        "single": {"mood": "aloof"},
        "change": {"mood": [None, "aloof"]},
        "source": "webhook",
    }
    assert printed["refetch"] == {
        "row": {"mood": "calm", "invited_on": None, "is_manager": False, "smile_count": 3},
        "list": {"mood": "calm", "isManager": False},
        "single": {"mood": "calm", "isManager": False, "smileCount": 3},
        "change": {"mood": ["aloof", "calm"], "is_manager": [None, False], "smile_count": [None, 3]},
        "source": "refetch",
    }
    # It is personal. Every change that names it is emptied, and the erasure adds one.
    assert printed["erased"]["row"] is None
    assert [moods for moods in printed["erased"]["moods"] if moods] == [[None, None]] * 5
    # A made-up status is read by hot pulls, may be stuck, and has a metric.
    assert printed["status"] == {"asked": True, "moving": True, "metric": True}
