"""SOURCE: a corpus as it lies on disk, one utterance at a time.

>>> for item in open_source("LJSpeech-1.1"):        # doctest: +SKIP
...     item.id, item.audio, item.text

The families: :mod:`ljspeech <calib.data.sources.ljspeech>` (``metadata.csv``), :mod:`tables
<calib.data.sources.tables>` (filelists, Coqui CSV, Common Voice TSV), :mod:`manifest
<calib.data.sources.manifest>` (JSONL), :mod:`folder <calib.data.sources.folder>` (of audio, of mels).
:mod:`recognise <calib.data.sources.recognise>` decides which it is.
"""

from calib.data.sources.base import Item, Source, safe_name
from calib.data.sources.recognise import open_source

__all__ = ["Item", "Source", "open_source", "safe_name"]
