"""Pairs in, a Diagnosis out: arrays, numbers and dataclasses; no files, no plots."""
