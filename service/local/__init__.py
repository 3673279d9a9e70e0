"""Parts that run on one machine only: the sandbox vendor, servers from wheels, and the system that `up` starts."""
