"""A Diagnosis as one self-contained HTML page and its JSON twin."""
