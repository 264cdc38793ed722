"""Infinite width. How the error falls with the number of examples: from the spectrum, and from the training set alone.

`curve` predicts it from a pool, `forecast` from the examples trained on, `alignment` says why it falls as it does.
"""

from ntkinfo.learning._curve import LearningCurve, curve
from ntkinfo.learning._forecast import Alignment, Forecast, alignment, forecast

__all__ = ["Alignment", "Forecast", "LearningCurve", "alignment", "curve", "forecast"]
