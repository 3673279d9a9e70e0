"""Redis: the inbox of deliveries, RQ jobs, leases, counters, and what its settings guarantee."""
