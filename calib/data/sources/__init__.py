"""SOURCE: a corpus as it lies on disk or in the cloud, one utterance at a time.

>>> for item in open_source("LJSpeech-1.1"):        # doctest: +SKIP
...     item.id, item.audio, item.text

The families: :mod:`ljspeech <calib.data.sources.ljspeech>` (``metadata.csv``), :mod:`tables
<calib.data.sources.tables>` (filelists, Coqui CSV, Common Voice TSV), :mod:`manifest
<calib.data.sources.manifest>` (JSONL), :mod:`kaldi <calib.data.sources.kaldi>` (``wav.scp``, ``feats.scp``),
:mod:`lhotse <calib.data.sources.lhotse>` (cuts), :mod:`tars <calib.data.sources.tars>` (WebDataset), :mod:`parquet
<calib.data.sources.parquet>` (Hugging Face), :mod:`folder <calib.data.sources.folder>` (of audio, of mels).
:mod:`recognise <calib.data.sources.recognise>` decides which it is. All of them may be URLs that fsspec reads.
"""

from calib.data.sources.base import Item, Source
from calib.data.sources.names import safe_name
from calib.data.sources.recognise import open_source
from calib.data.sources.select import Select

__all__ = ["Item", "Select", "Source", "open_source", "safe_name"]
