"""The largest step with which gradient descent of infinitely wide networks is stable."""

from jaxtyping import ArrayLike, Float

from ntkinfo._common import check, labels
from ntkinfo.finite import _gradient_descent, _validate


def stability_limit(net, x: Float[ArrayLike, "n ..."], y: Float[ArrayLike, "n ..."]) -> float:
    """The learning rate 2 n k / λ_max above which full-batch gradient descent diverges at infinite width.

    λ_max is the largest eigenvalue of the tangent kernel of the training inputs. Rates are steps in the time of
    `train`. Finite networks are close to it where they are wide.

    Args:
      net: a network of `ntkinfo.stax`, (init, apply, kernel).
      x: training inputs, (n, ...), floating point.
      y: training labels, (n, k) or (n,); only their number counts.

    Returns:
      The limit, a float. Computed on the host: not to be traced.

    Raises:
      TypeError: no network, inputs or labels that are not floating-point numbers.
      ValueError: shapes that do not fit, traced inputs.

    Source: theory, section 1.

    Example:
      >>> learning_rate = stability_limit(net, x, y) / 4
      >>> run = ni.finite.train(net, x, y, times, n_networks=50, key=key, learning_rate=learning_rate)
    """
    _validate.kernel_network(net)
    x = check.inputs("x", x)
    if not check.concrete(x):
        raise ValueError("`x` must be known outside `jit`: the limit is computed on the host.")
    return _gradient_descent.stability_limit(net[2], x, labels.real_targets("y", y, len(x)))
