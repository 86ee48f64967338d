"""Speaking: texts to sentences, mels to audio piece by piece, and one level for all of it. No commands, no models."""
