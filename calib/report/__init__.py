"""A `Diagnosis` as one self-contained HTML page and its JSON twin: pure data in, text out.

The map:

- :mod:`calib.report.inputs` - what goes in (`ReportInput`, `Example`, `IndexEntry`) and comes out (`Report`);
- :mod:`calib.report.page` - `build_report` and `build_index`;
- :mod:`calib.report.wording` - numbers with units, the sentences beside figures, hostile text made harmless;
- :mod:`calib.report.tables` - the tables, as pandas frames;
- :mod:`calib.report.figures`, :mod:`calib.report.svg` - charts, as inline SVG that follows the page's colours;
- :mod:`calib.report.media` - spectrograms as WebP, sounds as FLAC, both as data URLs.

Importing this package loads numpy only; jinja2, pandas, matplotlib, pillow and soundfile wait until a page is built.
"""

from calib.report.inputs import Example, IndexEntry, Report, ReportInput
from calib.report.page import build_index, build_report

__all__ = ["Example", "IndexEntry", "Report", "ReportInput", "build_index", "build_report"]
