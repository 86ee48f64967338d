"""Calibration and diagnostics for mel-spectrogram text-to-speech.

The map:

- :mod:`calib.params` - the two JSON files that inference reads (numpy only, can be vendored);
- :mod:`calib.mel` - front ends: audio to mel, every parameter explicit; dataset statistics;
- :mod:`calib.data` - SOURCE (corpora) and PAIRS (targets and predictions) as they come from disk;
- :mod:`calib.run` - one function over a corpus: processes, skipped files, resuming;
- :mod:`calib.diagnose` - pairs in, one :class:`~calib.diagnose.analysis.Diagnosis` out: arrays and numbers only;
- :mod:`calib.models`, :mod:`calib.vocoders` - plug-in protocols, their loading, and the built-in ones;
- :mod:`calib.report` - a Diagnosis as one HTML page and its JSON twin, several of them compared;
- :mod:`calib.schemas` - the JSON Schemas of everything that is written;
- :mod:`calib.training` - what a training run says of itself at each validation;
- :mod:`calib.api` - ``calib.analyze``, the Python entry;
- :mod:`calib.commands` - what the command line does: one file a command.

Imports go downwards only (commands use everything, ``diagnose`` only numpy and scipy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calib.api import analyze

__version__ = "0.1.0"
__all__ = ["__version__", "analyze"]


def __getattr__(name: str) -> Any:
    """``calib.analyze``, loaded when it is first asked for: ``import calib`` stays light."""
    if name == "analyze":
        from calib.api import analyze

        return analyze
    raise AttributeError(f"module 'calib' has no attribute {name!r}")
