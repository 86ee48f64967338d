"""The systems' own code, run on given audio: what the catalogue is compared with. Imports nothing of calib.

Runs by itself, in an interpreter that has torch, torchaudio, librosa and transformers (and, for one row, tensorflow)::

    python originals.py DIR SIGNALS.npz OUT.npz float64|float32 [ENTRY ...]

DIR holds one checkout a repository, named ``owner+name``, at the commit of `upstream.COMMITS` (or a git repository in
``owner+name`` or ``owner+name/repo`` that has that commit). Nothing is imported from a checkout as a package: the few
functions and classes that make a mel are taken out of their files and run with torch, numpy and librosa around them, so
that nothing else of a system has to be installed. Parameters are read from the system's own configuration files.

Shims, because the code is older than its libraries: positional arguments of `librosa.filters.mel` and `pad_center`,
`torch.stft` without ``return_complex``. With ``float64``, ``.float()`` is ``.double()``, so that what differs from calib
is the mathematics and not the rounding; ``float32`` runs the code as it is shipped.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
from systems import FAMILY
from upstream import NotObtainableError, Sources, double_precision


def main() -> None:
    """See the module."""
    root, signals, out, precision, *only = sys.argv[1:]
    with np.load(signals) as archive:
        audio = {key: archive[key] for key in archive.files}
    asked = {key.split("|")[0] for key in audio}
    torch_rows = [name for name in FAMILY if name in asked and name != "myxtts_tf_native"]
    if precision == "float64" and torch_rows and (not only or set(only) & set(torch_rows)):
        with contextlib.suppress(ImportError):  # then each row says what it lacks
            double_precision()
    sources, result, notes = Sources(Path(root)), {}, {}
    for name, make in FAMILY.items():
        if name not in asked or (only and name not in only):
            continue
        try:
            started = time.process_time()
            front = make(sources)
            for key, x in audio.items():
                if key.split("|")[0] == name:
                    mel = front(x)
                    # Of the many lengths only the number of frames is kept.
                    result[key] = np.array(len(mel)) if "|length" in key else np.asarray(mel)
            sys.stderr.write(f"{name}: {time.process_time() - started:.1f} s\n")
        except NotObtainableError as error:
            notes[name] = str(error)
        except Exception as error:  # noqa: BLE001 - a reference that fails is a row that says so
            notes[name] = f"{type(error).__name__}: {error}"
    versions = {}
    for library in ("torch", "torchaudio", "librosa", "transformers", "tensorflow", "numpy"):
        if library in sys.modules:
            versions[library] = str(getattr(sys.modules[library], "__version__", "?"))
    np.savez(out, **result, __notes__=np.array(json.dumps(notes)), __versions__=np.array(json.dumps(versions)))


if __name__ == "__main__":
    main()
