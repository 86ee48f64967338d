"""What comes from disk and goes to it: audio, arrays, corpora (SOURCE), pairs (PAIRS), result files."""
