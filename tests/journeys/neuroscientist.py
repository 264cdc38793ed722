"""A neuroscientist with spike counts: information about the stimulus, with an error bar, beside the known truth."""

import numpy as np
import pandas as pd
from scipy.stats import poisson

import ntkinfo as ni

rng = np.random.default_rng(0)
stimulus = rng.integers(0, 2, 4000)
counts = rng.poisson(np.where(stimulus == 1, 6.0, 2.0))
joint = ni.discrete.from_counts(pd.crosstab(counts, stimulus))
p = np.array([poisson.pmf(np.arange(60), rate) / 2 for rate in (2.0, 6.0)])
truth = ni.discrete.mutual_information(p / p.sum())
found = joint.to_dataframe().attrs["mutual_information"]
assert abs(found - float(truth)) < 0.03 and joint.n == 4000
