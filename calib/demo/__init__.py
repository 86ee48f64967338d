"""The embedded corpus and checkpoints that `calib demo` runs on."""
