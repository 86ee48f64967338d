"""A `Diagnosis` as one self-contained HTML page and its JSON twin: pure data in, text out.

The map:

- :mod:`calib.report.inputs` - what goes in (`ReportInput`, `Example`, `IndexEntry`) and comes out (`Report`);
- :mod:`calib.report.page` - `build_report` and `build_index`;
- :mod:`calib.report.headline` - the first screen: outcome, bars, counts, findings with their thresholds;
- :mod:`calib.report.margins` - how sure the errors are, and by how much a fit is better than a constant;
- :mod:`calib.report.legpicture` - target, prediction and vocoder;
- :mod:`calib.report.utterances` - utterances in full, and the table of all of them;
- :mod:`calib.report.wording` - numbers with units, the sentences beside figures, hostile text made harmless;
- :mod:`calib.report.tables` - the tables, as pandas frames;
- :mod:`calib.report.figures` (with ``fitfigures``, ``smoothfigures``, ``canvas``), :mod:`calib.report.svg` - charts, as
  inline SVG that follows the page's colours;
- :mod:`calib.report.media` - spectrograms as WebP, sounds as FLAC, both as data URLs;
- :mod:`calib.report.compare`, :mod:`calib.report.exports` - several runs side by side; Markdown and figures as files.

Importing this package loads numpy only; jinja2, pandas, matplotlib, pillow and soundfile wait until a page is built.
"""

from calib.report.inputs import Example, IndexEntry, Report, ReportInput, Setting
from calib.report.page import build_index, build_report

__all__ = ["Example", "IndexEntry", "Report", "ReportInput", "Setting", "build_index", "build_report"]
