"""The thin edge between RQ and the application: jobs, their schedule, the processes that run them."""
