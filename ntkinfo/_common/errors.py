"""What is raised where training diverges, and the one test for it."""

from typing import Any

from jax import Array

# A loss this many times its scale (that at the start) counts as divergence: gradient descent that converges never comes
# near it, and one that diverges may take long from here to overflow.
DIVERGENCE_RATIO = 1e4


def has_diverged(loss: Array, scale: Array) -> Array:
    """Whether a loss exceeds `DIVERGENCE_RATIO` times its scale, or is NaN. Pure and jittable; shapes broadcast."""
    # NaN compares false with everything, so it must fail a test rather than pass one.
    return ~(loss <= DIVERGENCE_RATIO * scale)


class DivergedError(ValueError):
    """Training diverged. Raised by `finite.train`, `finite.train_layers` and `variational.fit`.

    Attributes:
      step: gradient step, from 0, at which it did; None where it is not known.
      epoch: epoch of that step; None where training has no epochs.
      time: training time of that step for the first network that diverged, in the convention of `Ensemble.predict`;
        None where training is not counted in it.
      run: the `Run` or `LayerRun` recorded before, or None if nothing was.
      fit: the `VariationalFit` reached before, or None if nothing was.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int | None = None,
        epoch: int | None = None,
        time: float | None = None,
        run: Any = None,
        fit: Any = None,
    ):
        super().__init__(message)
        self.step = step
        self.epoch = epoch
        self.time = time
        self.run = run
        self.fit = fit
