"""Deployments and switches by chance, each decided by a seed, and what each left judged: ``make soak SEEDS=500``."""
