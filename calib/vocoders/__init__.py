"""Vocoders: mel to audio."""
