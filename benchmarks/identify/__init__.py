"""The identification benchmark: is the front end that made a mel found from ten seconds of audio and the mel?

- :mod:`~benchmarks.identify.speech` - ten seconds of real speech at any sample rate, by corpus;
- :mod:`~benchmarks.identify.cases` - the catalogue, random front ends outside it, and mels as a model predicts them;
- :mod:`~benchmarks.identify.score` - which parameters the data can tell (an oracle with the truth decides), and whether
  the answer was right, a set, or confidently wrong;
- :mod:`~benchmarks.identify.run` and :mod:`~benchmarks.identify.pages` - processes, tables, RESULTS.md.
"""
