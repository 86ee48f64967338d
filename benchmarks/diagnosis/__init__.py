"""The injected-fault benchmark: faults of known name and size are put into predictions of known quality.

The map, from the data to the figures:

- :mod:`~benchmarks.diagnosis.corpora` - real speech, cut into utterances; their mels in any front end;
- :mod:`~benchmarks.diagnosis.simulate` - predictions of a model of given quality, and :mod:`~benchmarks.diagnosis.trained`,
  those of the really trained reference model;
- :mod:`~benchmarks.diagnosis.plan` - what a fault may change; :mod:`~benchmarks.diagnosis.inject`, every fault of the
  library by id, made in :mod:`~benchmarks.diagnosis.fault_frontend`, :mod:`~benchmarks.diagnosis.fault_units` and
  :mod:`~benchmarks.diagnosis.fault_model`; :mod:`~benchmarks.diagnosis.unlisted`, distortions that the library does
  not know;
- :mod:`~benchmarks.diagnosis.cases` - which cases there are, and `materialise`, a case as arrays;
- :mod:`~benchmarks.diagnosis.run` - the cases through ``analyze``, in processes, one row a case;
- :mod:`~benchmarks.diagnosis.metrics` and :mod:`~benchmarks.diagnosis.pages` - rows to figures, figures to a page.

The injections were written without sight of the tests that they are to be found by, and are not tuned to them.
"""
