"""Infinite width. Conditional mutual information of losses and the training set, and the bounds on the error from it.

`supersample` at every time, from which of each pair of examples was trained on; `leave_one_out` at the end of training,
from which example was left out. All bounds hold on average over the data and explain generalization: to evaluate them
takes the labels of the examples left out, and they certify nothing that an error on these would not.
"""

from ntkinfo.cmi._leave_one_out import LeaveOneOut, leave_one_out
from ntkinfo.cmi._supersample import Supersample, supersample

__all__ = ["LeaveOneOut", "Supersample", "leave_one_out", "supersample"]
