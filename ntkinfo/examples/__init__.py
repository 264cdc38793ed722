"""Infinite width. What single training examples tell beside all others, and the choice of informative ones.

`value` leaves every example out, by one decomposition for all; `select` picks examples of a pool by information gain.
"""

from ntkinfo.examples._select import Selection, select
from ntkinfo.examples._value import ExampleValue, GroupValue, value

__all__ = ["ExampleValue", "GroupValue", "Selection", "select", "value"]
