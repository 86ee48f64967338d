"""Faults by name: what each is, how it shows, what it cannot be told from, and what to do about it."""
