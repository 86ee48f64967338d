"""The optional compiled kernel, several times as fast as numpy: `mel` (statistics of audio) and `pairs` (moments).

``kernel.c`` is compiled at install where there is a compiler (``compile.py``), once for each instruction set, and never
while `calib` runs; `library` opens it. Whatever it computes has a pure path with the same answer to rounding.

``CALIB_NATIVE`` chooses: ``auto`` (or unset), ``0`` for the pure path, or ``generic``, ``avx2``, ``avx512``.

Conventions:
    The *path* is ``pure`` or the name of the instruction set. It can change last bits, so a ledger must hold it.
"""
