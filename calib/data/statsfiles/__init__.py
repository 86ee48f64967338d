"""Mel statistics in the files of the field's systems: read, checked and written, without unpickling code.

======================  ==============================================================================================
module                  what is in it
======================  ==============================================================================================
``model``               `MelStatistics` and the checks that every file goes through
``formats``             `FORMATS`: names, titles and sources
``reading``             `read`: recognised by content; ``[FORMAT=]FILE[#SPEAKER]``
``writing``             `write`: as the systems' own code would have written
``numpyfiles`` ...      one module for each kind of file: numpy, ``inert`` pickles, ``hdf5``, ``kaldi``, ``tensors``, ``texts``
======================  ==============================================================================================
"""

from calib.data.statsfiles.formats import FORMATS, Format
from calib.data.statsfiles.hdf5 import require_h5py
from calib.data.statsfiles.model import NEGATIVE_VARIANCE, MelStatistics
from calib.data.statsfiles.reading import Reference, read
from calib.data.statsfiles.writing import WRITABLE, encode, write

__all__ = [
    "FORMATS",
    "NEGATIVE_VARIANCE",
    "WRITABLE",
    "Format",
    "MelStatistics",
    "Reference",
    "encode",
    "read",
    "require_h5py",
    "write",
]
