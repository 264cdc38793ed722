"""What training finite networks returns."""

from typing import NamedTuple

import numpy as np
from jax import Array

from ntkinfo._common import tables


class Run(NamedTuple):
    """Finite networks at T training times: N of them, each seen on n training and m test inputs. Made by `train`.

    Attributes:
      t: times, (T,), as asked for.
      outputs: f_t(x_test), (N, T, m, k); None without test inputs.
      train_outputs: f_t(x), (N, T, n, k); None where not kept.
      y: training labels, (n, k).
      loss: ½ mean over n k of (f - y)², (N, T).
      parameter_distance: ‖θ_t - θ_0‖², (N, T).
      action: ∫‖dθ/ds‖² ds with s = t/(nk), of the polygon through the steps, (N, T).
      fisher_action: ∫(dθ/ds)ᵀ F (dθ/ds) ds = ∫‖df/ds‖² ds over the training outputs, likewise, (N, T).
      fisher_trace: tr F = Σ ‖∇f_c(x_i)‖² over training inputs and outputs, (N, T); None where not asked for.
      learning_rate: the largest step in t that was taken, a scalar.
      stability_limit: 2 n k / λ_max of the infinite tangent kernel: gradient descent diverges above; NaN where the
        learning rate was given and the limit not computed.
      steps: gradient steps from 0 to each time, (T,).
    """

    t: Array
    outputs: Array | None
    train_outputs: Array | None
    y: Array
    loss: Array
    parameter_distance: Array
    action: Array
    fisher_action: Array
    fisher_trace: Array | None
    learning_rate: Array
    stability_limit: Array
    steps: Array

    @property
    def _table(self) -> tables.Table:
        # A single time has no axis.
        return tables.Table(
            ("network", "t") if np.ndim(self.t) else ("network",),
            plain="loss parameter_distance action fisher_action fisher_trace steps",
            where={"steps": ("t",) if np.ndim(self.t) else ()},
            totals="learning_rate stability_limit",
        )

    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html
