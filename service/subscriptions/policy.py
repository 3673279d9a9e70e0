"""How much is sent at a time, how often it is tried, when it is given up, how long things may take. Pure."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400.0
# For name resolution, connection, request and the whole response together.
REQUEST_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class SendingPolicy:
    """Limits of one subscription; times in seconds.

    Attributes:
        parallel: requests in flight at a time.
        window: changes that are read and not acknowledged at most.
        first_retry: pause after the first failure of a request; it doubles with each further one.
        longest_retry: longest pause between two tries of a request.
        failures_until_down: after this many failures without a success in between, the receiver counts as down: one
            request at a time tries whether it is back, whatever waits.
        longest_probe: longest pause between two such tries.
        failing_after: a request that has failed for this long makes the subscription `failing`.
        disabled_after: one that has failed for this long makes it `disabled`.
    """

    parallel: int = 8
    window: int = 1000
    first_retry: float = 1.0
    longest_retry: float = 3600.0
    failures_until_down: int = 8
    longest_probe: float = 300.0
    failing_after: float = 3 * DAY
    disabled_after: float = 7 * DAY

    def retry_pause(self, attempts: int, retry_after: float | None) -> float:
        """The pause after a request has failed `attempts` times.

        Args:
            attempts: at least 1.
            retry_after: what the receiver asked for; obeyed where it is longer, for `longest_retry` at most.
        """
        pause = min(self.longest_retry, self.first_retry * 2.0 ** min(attempts - 1, 30))
        return min(self.longest_retry, max(pause, retry_after or 0.0))

    def probe_pause(self, probes: int) -> float:
        """The pause before the next try of a receiver that is down, after `probes` tries."""
        return min(self.longest_probe, self.first_retry * 2.0 ** min(probes, 30))


@dataclass(frozen=True, slots=True)
class SenderTiming:
    """How often and how long, in seconds.

    Attributes:
        poll: pause between two checks of the feed while nothing changes.
        quick_poll: pause between two of them while changes come.
        lively: for how long after a change others are expected.
        sync: pause between two renewals of the leases, each of which writes the progress, too.
        request: how long a request takes at most.
        lease: how long a lease holds. Requests begin only while it holds for longer than one of them can take.
        fresh: for how long a change that was read is sent without reading it again: it may be erased meanwhile.
        last: how long requests in flight get on shutdown.
    """

    poll: float = 0.05
    quick_poll: float = 0.01
    lively: float = 1.0
    sync: float = 1.0
    request: float = REQUEST_SECONDS
    lease: float = REQUEST_SECONDS + 5.0
    fresh: float = 2.0
    last: float = 4.0
