"""Calibrated against retrained: `python benchmarks/retrain`."""
