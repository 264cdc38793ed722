"""The choice between the estimators of `ntkinfo.mixture`: by name, with one default for each number of outputs."""

from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check
from ntkinfo._common.results import Information
from ntkinfo.mixture import _channel

METHODS = ("exact", "monte_carlo", "minibatch", "pairwise")


def select_method(method: str | None, k: int, key: Array | None) -> str:
    """The method that applies to k outputs: the exact one for k = 1, else Monte Carlo, unless named.

    Args:
      method: "exact", "monte_carlo", "minibatch", "pairwise", or None.
      k: number of outputs.
      key: random key, which the sampled methods need.

    Returns:
      The name of the method.

    Raises:
      ValueError: an unknown method, "exact" for several outputs, a sampled method without a key.

    Example:
      >>> select_method(None, 1, None), select_method(None, 3, key)
      ('exact', 'monte_carlo')
    """
    k = check.integer("k", k)
    if key is not None:
        check.key("key", key)
    if method is None:
        method = "exact" if k == 1 else "monte_carlo"
    check.option("method", method, METHODS)
    if method == "exact" and k > 1:
        raise ValueError(f'`method` "exact" is for one output, k = 1; got k = {k}. Use one of {METHODS[1:]}.')
    if method in ("monte_carlo", "minibatch"):
        require_key(key, f"the {method} estimator (k = {k})")
    return method


def require_key(key: Array | None, what: str) -> Array:
    """`key`, or a ValueError that says `what` it is needed for.

    Example:
      >>> require_key(key, 'sampling') is key
      True
    """
    if key is None:
        raise ValueError(f"`key` must be given: {what} samples. Pass key=jax.random.key(0), or another seed.")
    return check.key("key", key)


def pair(
    mean: Float[ArrayLike, "... m k"],
    variance: Float[ArrayLike, "... m"],
    one_hot: Float[ArrayLike, "m c"],
    *,
    method: str | None = None,
    key: Array | None = None,
    n_samples: int = 64,
) -> tuple[Information, Information]:
    """I(X;Z) and I(Y;Z) in nats in one pass, by the method chosen.

    Args:
      mean: (..., m, k).
      variance: (..., m), positive.
      one_hot: (m, c) classes as unit rows; a single column of ones where there is none.
      method: "exact" (k = 1), "monte_carlo", "minibatch" or "pairwise"; None is "exact" for k = 1, else "monte_carlo".
      key: random key, for the sampled methods.
      n_samples: draws of z for each point, for the sampled methods.

    Returns:
      I(X;Z) and I(Y;Z), each of shape (...); what their fields mean depends on the method.

    Raises:
      ValueError: an unknown method, "exact" for several outputs, a sampled method without a key, shapes that do not
        fit, or variances that are not positive (`nan` under tracing).

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> i_xz, i_yz = pair(mean, variance, np.eye(2))
      >>> round(float(i_xz.value), 4), round(float(i_yz.value), 4)  # two points told apart: log 2
      (0.6931, 0.6931)
    """
    mean = check.array("mean", mean)
    if mean.ndim < 2:
        raise ValueError(f"`mean` must have shape (..., m, k); got {mean.shape}.")
    method = select_method(method, mean.shape[-1], key)
    n_samples = check.integer("n_samples", n_samples)
    if method == "exact":
        return _channel.exact_pair(mean, variance, one_hot)
    if method == "pairwise":
        return _channel.pairwise_pair(mean, variance, one_hot)
    sampled = _channel.monte_carlo_pair if method == "monte_carlo" else _channel.minibatch_pair
    return sampled(mean, variance, one_hot, key=key, n_samples=n_samples)
