"""The legs benchmark: whom `calib diagnose --vocoder-frontend` blames, and what `calib check vocoder` says of known vocoders."""
