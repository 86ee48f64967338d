"""From the mel of one front end to the mel of another: exactly where that is possible, else with a stated error.

==============  ======================================================================================================
module          what is in it
==============  ======================================================================================================
``planning``    `plan`: which way, why, what is lost; `Plan`, `Loss`
``relation``    the exact elementwise map between front ends of one family; guards
``grids``       where the frames of one lie among the frames of the other
``inversion``   what other filters would have seen, without fitting
``features``    what the regression looks at
``regression``  ridge regression, chosen and scored on groups left out
``converter``   `Converter`: fit, apply, save, load
``layouts``     mels as vocoder trainers read them
==============  ======================================================================================================

Example:
    >>> import numpy as np
    >>> from calib.mel.frontend import FrontEnd
    >>> hifigan = FrontEnd.load("hifigan")
    >>> decibel = FrontEnd.from_fields({**hifigan.fields(), "log": "log10", "log_multiplier": 20.0})
    >>> found = plan(hifigan, decibel, audio=False, pairs=True)
    >>> found.how
    'exact'
    >>> mel = np.full((3, 80), -4.0, dtype=np.float32)
    >>> round(float(Converter(found).apply(mel)[0, 0]), 3)
    -34.744
"""

from calib.mel.convert.converter import Converted, Converter, Example, Fit, example
from calib.mel.convert.planning import HOWS, Loss, Plan, plan

__all__ = ["HOWS", "Converted", "Converter", "Example", "Fit", "Loss", "Plan", "example", "plan"]
