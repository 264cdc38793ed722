"""The choice between the estimators of `ntkinfo.mixture`: by name, with one default for each number of outputs."""

from jax import Array

from ntkinfo._common import check
from ntkinfo._common.results import Information
from ntkinfo.mixture import _channel

METHODS = ("exact", "monte_carlo", "minibatch", "pairwise")


def choose(method: str | None, k: int, key: Array | None) -> str:
    """The method that applies to k outputs: the exact one for k = 1, else Monte Carlo, unless named.

    Raises:
      ValueError: an unknown method, "exact" for several outputs, a sampled method without a key.
    """
    if method is None:
        method = "exact" if k == 1 else "monte_carlo"
    check.option("method", method, METHODS)
    if method == "exact" and k > 1:
        raise ValueError(f'`method` "exact" is for one output, k = 1; got k = {k}. Use one of {METHODS[1:]}.')
    if method in ("monte_carlo", "minibatch"):
        need_key(key, f"the {method} estimator (k = {k})")
    return method


def need_key(key: Array | None, what: str) -> Array:
    """`key`, or an error that says what it is needed for."""
    if key is None:
        raise ValueError(f"`key` must be given: {what} samples. Pass key=jax.random.key(0), or another seed.")
    return key


def pair(
    mean: Array,
    variance: Array,
    one_hot: Array,
    method: str | None = None,
    *,
    key: Array | None = None,
    n_samples: int = 64,
) -> tuple[Information, Information]:
    """I(X;Z) and I(Y;Z) in one pass by the method chosen; arguments as for the functions of `ntkinfo.mixture`."""
    method = choose(method, mean.shape[-1], key)
    if method == "exact":
        return _channel.exact_pair(mean, variance, one_hot)
    if method == "pairwise":
        return _channel.pairwise_pair(mean, variance, one_hot)
    sampled = _channel.monte_carlo_pair if method == "monte_carlo" else _channel.minibatch_pair
    return sampled(mean, variance, one_hot, key=key, n_samples=n_samples)
