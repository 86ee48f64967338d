"""One function over a corpus: processes, order, skipped files, resuming."""
