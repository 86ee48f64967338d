"""Conversion between front ends, against the four methods of the research notes: ``python -m benchmarks.convert``."""
