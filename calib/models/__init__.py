"""Acoustic models: the plug-in protocol, how a spec becomes a model, and the reference model."""
