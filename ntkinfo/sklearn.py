"""Infinite width. Infinitely wide networks as estimators of scikit-learn: regression and classification, exact.

    model = make_pipeline(StandardScaler(), ntkinfo.sklearn.NTKRegressor(depth=3, noise="fit"))
    mean, std = model.fit(x, y).predict(x_test, return_std=True)

Both compute in float64, whatever JAX is set to, and can be cloned, pickled and searched over. O(n³) in the number n of
training samples, once.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

try:
    import sklearn.base
    import sklearn.utils
    import sklearn.utils.multiclass
    import sklearn.utils.validation
except ImportError as error:
    raise ImportError(
        "`ntkinfo.sklearn` needs scikit-learn, which is not installed: `pip install scikit-learn`."
    ) from error

from ntkinfo import architectures, ensemble, gaussian, posterior
from ntkinfo._common import check, parallel

__all__ = ["NTKClassifier", "NTKRegressor"]


def _validated(estimator, *args, **kwargs):
    """`validate_data` of scikit-learn, a method before version 1.6."""
    if hasattr(sklearn.utils.validation, "validate_data"):
        return sklearn.utils.validation.validate_data(estimator, *args, **kwargs)
    return estimator._validate_data(*args, **kwargs)


def _trained(net, x: np.ndarray, targets: np.ndarray) -> ensemble.Ensemble:
    """The ensemble; the remedy of a singular kernel is one that an estimator has."""
    try:
        return ensemble.Ensemble.fit(net, x, targets)
    except ValueError as error:
        told, option, _ = str(error).partition(', or pass singular="project"')
        if not option:
            raise
        raise ValueError(f"{told}, or leave `time` at None: with noise the posterior takes such inputs.") from error


class _Network(sklearn.base.BaseEstimator):
    """What both estimators share: the network, its fit, and the Gaussian over outputs."""

    depth: int
    activation: str
    w_std: float
    b_std: float
    noise: Any
    time: float | None
    prior: str
    # What the noise may be in words; with "fit_each" it may be one for each label.
    _noises: tuple[str, ...] = ("fit",)

    def _network(self):
        options = {"depth": self.depth, "activation": self.activation, "w_std": self.w_std, "b_std": self.b_std}
        return options, architectures.network(**options)

    def _fit_targets(self, x: np.ndarray, targets: np.ndarray) -> None:
        """Conditions on targets (n, k): a posterior, or an ensemble trained for a time."""
        self._options, net = self._network()
        if self.time is not None:
            check.number("time", self.time, low=0.0)
        if isinstance(self.noise, str):
            check.option("noise", self.noise, self._noises)
        else:
            check.positive("noise", self.noise, scalar=len(self._noises) == 1)
        check.option("prior", self.prior, posterior.PRIORS)
        with parallel.enable_x64(True):
            if self.time is None:
                self.model_ = posterior.Posterior.fit(net, x, targets, noise=self.noise, prior=self.prior)
                self.noise_ = np.asarray(self.model_.noise) if np.ndim(self.model_.noise) else float(self.model_.noise)
            else:
                self.model_ = _trained(net, x, targets)
                self.time_ = float(self.time)

    def _predict(self, X, joint: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Mean (m, k), variance (m, 1) and, if `joint`, covariance (m, m, 1) of the outputs.

        With one noise for each label the last axis is that of labels, k.
        """
        sklearn.utils.validation.check_is_fitted(self)
        x = _validated(self, X, reset=False, dtype=np.float64)
        with parallel.enable_x64(True):
            times = () if isinstance(self.model_, posterior.Posterior) else (self.time_,)
            z = self.model_.predict(x, *times, joint=joint)
            mean, variance = np.asarray(z.mean), np.asarray(z.variance)
            covariance = None if z.covariance is None else np.asarray(z.covariance)
            if np.ndim(getattr(self.model_, "noise", 0.0)):
                each = None if covariance is None else np.moveaxis(covariance, 0, -1)
                return mean[:, :, 0].T, variance.T, each
            return mean, variance[:, None], None if covariance is None else covariance[:, :, None]

    def __getstate__(self):
        """The fitted arrays as those of NumPy, without the kernel function, which is made again of its options."""
        state = dict(super().__getstate__())
        if "model_" in state:
            bare = dataclasses.replace(state["model_"], kernel_fn=None)
            state["model_"] = jax.tree.map(np.asarray, bare)
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "model_" in state:
            kernel_fn = architectures.network(**self._options)[2]
            with parallel.enable_x64(True):
                arrays = jax.tree.map(jnp.asarray, self.model_)
            self.model_ = dataclasses.replace(arrays, kernel_fn=kernel_fn)


class NTKRegressor(sklearn.base.MultiOutputMixin, sklearn.base.RegressorMixin, _Network):
    """Regression by an infinitely wide fully connected network: its Bayesian posterior, or training by gradient flow.

    Kernels depend on the scale of the inputs: put a `StandardScaler` before it in a pipeline.

    Args:
      depth: number of hidden layers.
      activation: one of `architectures.ACTIVATIONS`, such as "erf" or "relu".
      w_std: standard deviation of the weights at initialisation, in the NTK parameterization.
      b_std: standard deviation of the biases.
      noise: variance σ² of the observation noise of the posterior, or "fit" for that of largest marginal likelihood; an
        array (k,) or "fit_each" for one of each label. In units of the variance of the labels where `normalize_y`.
        Networks trained for a `time` know no noise: unused.
      time: None for the Bayesian posterior; else the time of gradient flow, from 0 (the prior) to `numpy.inf`, under
        which the distribution is that over random initialisations, with t as in `Ensemble.predict`.
      prior: "nngp" or "ntk", the kernel of the posterior's prior. Unused with a `time`.
      normalize_y: whether labels are shifted and scaled to mean 0 and variance 1, column by column, and predictions
        back. The prior has mean 0 and the scale of its kernel.

    Attributes:
      model_: the `Posterior` or `Ensemble`, of the scaled labels: its arrays are float64.
      noise_: σ² of the posterior, in the units of `noise`; an array (k,) where it is one of each label.
      n_features_in_: number of features.

    Source: theory, section 1; Lee et al. 2018, arXiv 1711.00165; Lee et al. 2019, arXiv 1902.06720.

    Example:
      >>> x = np.linspace(-1, 1, 20)[:, None]
      >>> model = NTKRegressor(noise=1e-3).fit(x, np.sin(3 * x[:, 0]))
      >>> bool(model.score(x, np.sin(3 * x[:, 0])) > 0.99)
      True
    """

    _noises = ("fit", "fit_each")

    def __init__(
        self,
        depth: int = 2,
        activation: str = "erf",
        w_std: float = 1.5,
        b_std: float = 0.1,
        *,
        noise: float | np.ndarray | str = 0.1,
        time: float | None = None,
        prior: str = "nngp",
        normalize_y: bool = True,
    ):
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.noise = noise
        self.time = time
        self.prior = prior
        self.normalize_y = normalize_y

    def fit(self, X: Any, y: Any) -> "NTKRegressor":
        """Conditions on samples X (n, d) and labels y (n,) or (n, k).

        Raises:
          TypeError, ValueError: as scikit-learn's validation, `Posterior.fit` and `Ensemble.fit`.
        """
        check.flag("normalize_y", self.normalize_y)
        x, y = _validated(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        y = np.asarray(y, np.float64)
        columns = y.reshape(len(y), -1)
        self._mean, self._scale = np.zeros(columns.shape[1]), np.ones(columns.shape[1])
        if self.normalize_y:
            # In units of the largest, whose squares neither overflow nor vanish.
            size = np.abs(columns).max(axis=0)
            relative = columns / np.where(size > 0, size, 1.0)
            self._mean, scale = size * relative.mean(axis=0), relative.std(axis=0)
            # A constant label, up to rounding, has no scale.
            self._scale = np.where(scale > 1e-14 * np.abs(relative.mean(axis=0)), size * scale, 1.0)
        self._one = y.ndim == 1
        self._fit_targets(x, (columns - self._mean) / self._scale)
        return self

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False):
        """The mean of the outputs at X (m, d), (m,) or (m, k); with it standard deviations or covariances.

        Of the noiseless outputs, exact at infinite width: add the noise for new labels.

        Args:
          X: samples.
          return_std: whether to return standard deviations as well, of the shape of the mean.
          return_cov: whether to return covariances between samples instead, (m, m) or (m, m, k).

        Returns:
          The mean, or the pair of it and what was asked for.

        Raises:
          ValueError: both asked for; X of other features than fitted on.
        """
        if return_std and return_cov:
            raise ValueError("`return_std` and `return_cov` must not both be True; got both.")
        mean, variance, covariance = self._predict(X, joint=bool(return_cov))
        mean = self._mean + self._scale * mean
        if covariance is not None and return_cov:
            with np.errstate(over="ignore"):
                covariance = covariance * self._scale**2
            check.finite_result("the covariance", covariance, "labels `y`")
            return self._shaped(mean), self._shaped(covariance)
        if return_std:
            return self._shaped(mean), self._shaped(np.sqrt(variance) * self._scale)
        return self._shaped(mean)

    def _shaped(self, values):
        return values[..., 0] if self._one else values

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Functions drawn from the posterior (or trained networks from the ensemble), jointly at X (m, d).

        Args:
          X: samples.
          n_samples: number of functions.
          random_state: seed, `RandomState` or None, as of scikit-learn.

        Returns:
          (m, n_samples), or (m, k, n_samples) for labels (n, k).
        """
        n_samples = check.size("n_samples", n_samples)
        mean, _, covariance = self._predict(X, joint=True)
        rng = sklearn.utils.check_random_state(random_state)
        eigenvalues, vectors = np.linalg.eigh(np.moveaxis(covariance, -1, 0))
        roots = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))[:, None]
        normal = rng.standard_normal((*mean.shape, n_samples))
        # Of one covariance for all outputs, or one for each.
        draws = np.einsum("kij,jks->iks", np.broadcast_to(roots, (mean.shape[1], *roots.shape[1:])), normal)
        values = self._mean[:, None] + self._scale[:, None] * (mean[:, :, None] + draws)
        return values[:, 0] if self._one else values


class NTKClassifier(sklearn.base.ClassifierMixin, _Network):
    """Classification by an infinitely wide fully connected network that regresses on the labels, ±1 or one for each.

    Two classes are one output with targets -1 and 1; more are one output each, with targets one-hot less 1/k.

    Args:
      depth: number of hidden layers.
      activation: one of `architectures.ACTIVATIONS`, such as "erf" or "relu".
      w_std: standard deviation of the weights at initialisation, in the NTK parameterization.
      b_std: standard deviation of the biases.
      noise: variance σ² of the noise on those targets, of the posterior, or "fit" for that of largest marginal
        likelihood. Networks trained for a `time` know no noise: unused.
      time: None for the Bayesian posterior; else the time of gradient flow, from 0 to `numpy.inf`.
      prior: "nngp" or "ntk", the kernel of the posterior's prior. Unused with a `time`.

    Attributes:
      classes_: the labels, sorted.
      model_: the `Posterior` or `Ensemble` of the targets: its arrays are float64.
      noise_: σ² of the posterior.
      n_features_in_: number of features.

    Source: theory, sections 1 and 2.

    Example:
      >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
      >>> NTKClassifier().fit(x, ["left", "left", "right", "right"]).predict([[3.0]]).tolist()
      ['right']
    """

    def __init__(
        self,
        depth: int = 2,
        activation: str = "erf",
        w_std: float = 1.5,
        b_std: float = 0.1,
        *,
        noise: float | str = 0.1,
        time: float | None = None,
        prior: str = "nngp",
    ):
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.noise = noise
        self.time = time
        self.prior = prior

    def fit(self, X: Any, y: Any) -> "NTKClassifier":
        """Conditions on samples X (n, d) and labels y (n,), numbers or text, of two classes at least.

        Raises:
          TypeError, ValueError: as scikit-learn's validation, `Posterior.fit` and `Ensemble.fit`; one class only.
        """
        x, y = _validated(self, X, y, dtype=np.float64)
        sklearn.utils.multiclass.check_classification_targets(y)
        y = sklearn.utils.column_or_1d(y, warn=True)
        self.classes_, codes = np.unique(y, return_inverse=True)
        k = len(self.classes_)
        if k < 2:
            raise ValueError(f"`y` must hold at least two classes; got one class, {self.classes_.tolist()[0]!r}.")
        targets = 2.0 * codes[:, None] - 1.0 if k == 2 else np.eye(k)[codes] - 1 / k
        self._fit_targets(x, targets)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class at X (m, d), (m,): that of the largest mean output."""
        mean, _, _ = self._predict(X)
        return self.classes_[(mean[:, 0] > 0).astype(int) if mean.shape[1] == 1 else np.argmax(mean, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability that a network decides for each class at X (m, d), (m, classes), in the order of `classes_`.

        Of one function drawn from the posterior (or one network trained from a random initialisation) the probability
        that its output is largest for this class; of two classes that its one output has this sign. Exact at infinite
        width. It is what networks disagree about, and no calibrated frequency of labels: noise in labels is not in it.
        """
        mean, variance, _ = self._predict(X)
        with parallel.enable_x64(True):
            if mean.shape[1] > 1:
                return np.asarray(gaussian.winning_probabilities(mean, variance[:, 0]))
            z = gaussian.Gaussian(jnp.asarray(mean), jnp.asarray(variance[:, 0]))
            # That the output is not of the other sign.
            return np.stack([gaussian.sign_error(z, np.full_like(mean, sign)) for sign in (1.0, -1.0)], axis=1)
