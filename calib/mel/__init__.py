"""Mel front ends, their catalogue, and dataset statistics."""
