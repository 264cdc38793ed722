"""Shared. Data: digits, files of MNIST, Fashion-MNIST and CIFAR-10, your own arrays and tables, a Gaussian problem.

Everything is NumPy on the host: nothing touches a device, and the same seed gives the same arrays on every machine.
All data sets share three rules. Of rows with equal inputs only the first is kept, so that training and test inputs are
distinct and no kernel is singular for that reason. Train and test come from one permutation fixed by `seed`. Inputs are
shifted by the training mean of each feature and divided: pixels by one number, so that the training mean of |x|²/d is
1, the columns of a table each by its own standard deviation in the training rows.
"""

from ntkinfo.datasets._dataset import Dataset, subsample
from ntkinfo.datasets._sources import cifar10, digits, fashion_mnist, gaussian, mnist, npz
from ntkinfo.datasets._tables import csv, from_arrays
from ntkinfo.datasets._targets import TASKS, one_hot, parity
from ntkinfo.datasets._twelve_bit import TwelveBit, twelve_bit

__all__ = [
    "TASKS",
    "Dataset",
    "TwelveBit",
    "cifar10",
    "csv",
    "digits",
    "fashion_mnist",
    "from_arrays",
    "gaussian",
    "mnist",
    "npz",
    "one_hot",
    "parity",
    "subsample",
    "twelve_bit",
]
