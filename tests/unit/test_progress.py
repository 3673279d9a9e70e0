"""Progress reports: a supervisor learns of its child over a pipe, and a full pipe delays neither."""

from __future__ import annotations

import os
import time

from tests.support.processes import eventually
from workers.progress import ProgressMonitor, ProgressReporter


def test_report_of_a_child_ends_its_silence() -> None:
    reports = ProgressMonitor()
    assert reports.silent_seconds() > 0
    assert reports.last is None
    before = time.monotonic()
    ProgressReporter(os.dup(reports.descriptor))()
    silent = reports.silent_seconds()
    assert reports.last is not None
    # It counts from the report on, however long this process waited for a processor meanwhile.
    assert before <= reports.last
    assert silent <= time.monotonic() - reports.last


def test_silence_before_a_first_report_counts_from_the_start() -> None:
    reports = ProgressMonitor()
    assert eventually(lambda: reports.silent_seconds() > 0.05)


def test_full_pipe_never_blocks_the_child() -> None:
    reports = ProgressMonitor()
    os.set_blocking(reports.descriptor, False)
    try:
        while os.write(reports.descriptor, b"." * 65536):
            pass
    except BlockingIOError:
        pass
    began = time.monotonic()
    ProgressReporter(reports.descriptor)()
    assert reports.silent_seconds() <= time.monotonic() - began


def test_dead_supervisor_never_disturbs_the_child() -> None:
    reports = ProgressMonitor()
    reports.close()
    ProgressReporter(reports.descriptor)()


def test_reporter_without_a_pipe_does_nothing() -> None:
    ProgressReporter(None)()
