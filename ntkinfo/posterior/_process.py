"""What posteriors have from the process that their prior kernel is held by."""

from typing import Any

from jax import Array


class OfProcess:
    """Training inputs, labels and their numbers, as those of `process`."""

    process: Any

    @property
    def x(self) -> Array:
        """Training inputs, (n, ...)."""
        return self.process.x

    @property
    def y(self) -> Array:
        """Training labels, (n, k)."""
        return self.process.y

    @property
    def n(self) -> int:
        """Number of training inputs."""
        return self.process.n

    @property
    def k(self) -> int:
        """Number of outputs of a network."""
        return self.process.k
