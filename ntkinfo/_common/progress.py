"""The one progress bar, with one rule: shown where asked for, hidden where not, else for work that takes long."""

import warnings
from collections.abc import Iterable

from tqdm import TqdmWarning

with warnings.catch_warnings():
    # In notebooks without ipywidgets the plain bar serves; there is nothing to be told of it.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

# By default a bar appears for work longer than this many seconds.
PROGRESS_DELAY_S = 3.0


def bar(
    items: Iterable | None = None, *, total=None, desc: str, unit: str, progress: bool | None, hidden=False
) -> tqdm:
    """A bar over `items`, or one to `update` up to `total`.

    Args:
      items: what to go through; None for a bar that is updated by hand.
      total: how many there are, where `items` does not say.
      desc: what is being worked on.
      unit: what one item is.
      progress: the public option: True shows the bar at once, False never, None after `PROGRESS_DELAY_S` seconds.
      hidden: never shown whatever the option, as under tracing.

    Returns:
      A `tqdm` bar: an iterable and a context manager.
    """
    delay = 0.0 if progress else PROGRESS_DELAY_S
    return tqdm(items, total=total, desc=desc, unit=unit, disable=hidden or progress is False, delay=delay)
