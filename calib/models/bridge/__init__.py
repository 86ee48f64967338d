"""Plug-ins in an interpreter of their own: ``--model-python PATH``, ``--vocoder-python PATH``.

- :mod:`~calib.models.bridge.client` - starts the worker and stands for the plug-in on calib's side;
- :mod:`~calib.models.bridge.worker` - the one file that runs there, and the wire format.
"""

from __future__ import annotations

from calib.models.bridge.client import Bridged, find_python, open_bridge

__all__ = ["Bridged", "find_python", "open_bridge"]
