"""Many deployments in one process, from many threads, and what the process holds in between: ``make long-life``."""
