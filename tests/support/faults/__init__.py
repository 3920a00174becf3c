"""Faults on purpose: one is walked through every step of a call of the library, and what each left is judged."""
