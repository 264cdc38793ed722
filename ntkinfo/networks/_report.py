"""What one trained network knows: a report of its kernel, its Laplace posterior, and its linearisation."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ntkinfo._common import check, tables
from ntkinfo._common import labels as _labels
from ntkinfo._common.data import FIELDS
from ntkinfo._numerics import padding
from ntkinfo.networks._network import Network, as_network, called, cast

# Steps of training that real and linearised networks are compared along, each a twentieth of what is stable.
_STEPS = 200
_STEP_SHARE = 0.05
_LEVELS = (0.5, 0.9)
# Of noise and prior: their products with kernels stay within the range of float32.
_VARIANCES = (1e-20, 1e20)


@dataclasses.dataclass(frozen=True)
class NetworkReport:
    """What one network knows. Made by `report`; all information is in nats.

    Attributes:
      n, m, k: training inputs, test inputs, outputs.
      n_parameters: P.
      eigenvalues: of Θ̂ on the training inputs, in descending order, (n,).
      prior_variance: τ² of the Laplace posterior.
      noise: its σ².
      effective_dimension: k Σ λ/(λ + σ²/τ²), the number of directions that the data decide.
      label_alignment: share of ‖Y‖² that the leading eigenvectors carry, cumulative, (n,).
      residual_alignment: likewise of Y - f(X; θ₀), (n,).
      log_evidence: log p(Y|X) of the Laplace posterior, exact for the linearised network.
      information_gain: I(f;Y|X), likewise.
      kl: KL[posterior ‖ prior], likewise.
      input_information: `Information`, I(X;Z) of the test outputs.
      label_information: `Information`, I(Y;Z).
      mean: predictions of the Laplace posterior on test inputs, (m, k).
      std: their standard deviations without the noise, (m,).
      coverage: level of central intervals with the noise, to the share of test labels within.
      train_mse, test_mse: ‖f - y‖² of the network as it is, averaged over inputs.
      train_error, test_error: its 0-1 error; None for regression.
      t: times of training on from θ₀, (T,).
      disagreement: ‖f_lin - f‖ / ‖f_lin - f₀‖ on test inputs, (T,); `nan` where neither moved or training diverged.
      linear_mse, real_mse: half mean squared errors on the training inputs, (T,).
      bounds: name of a bound on the 0-1 error to its value; only legal ones.
      no_bounds: why there are none; None where there are.
    """

    n: int
    m: int
    k: int
    n_parameters: int
    eigenvalues: np.ndarray
    prior_variance: float
    noise: float
    effective_dimension: float
    label_alignment: np.ndarray
    residual_alignment: np.ndarray
    log_evidence: float
    information_gain: float
    kl: float
    input_information: Any
    label_information: Any
    mean: np.ndarray
    std: np.ndarray
    coverage: dict[float, float]
    train_mse: float
    test_mse: float
    train_error: float | None
    test_error: float | None
    t: np.ndarray
    disagreement: np.ndarray
    linear_mse: np.ndarray
    real_mse: np.ndarray
    bounds: dict[str, float]
    no_bounds: str | None

    def __repr__(self):
        return (
            f"NetworkReport({self.n_parameters} parameters, n = {self.n}: effective dimension "
            f"{self.effective_dimension:.4g}, I(X;Z) {float(self.input_information.value):.4g}, I(Y;Z) "
            f"{float(self.label_information.value):.4g}, log evidence {self.log_evidence:.4g})"
        )

    _repr_html_ = tables.html

    def to_dataframe(self, *, unit: str = "nats"):
        """A pandas table with a row for each number: quantity, value, unit, and what it is.

        Raises:
          ValueError: a unit other than "nats" or "bits".
        """
        import pandas as pd

        factor = tables.factor(unit)
        linear = "exact for the linearised network"
        rows = [
            ("parameters", self.n_parameters, "", "exact"),
            ("largest eigenvalue", float(self.eigenvalues[0]), "", linear),
            ("prior variance", self.prior_variance, "", "of the Laplace posterior"),
            ("noise", self.noise, "", "of the Laplace posterior"),
            ("effective dimension", self.effective_dimension, "", linear),
            *(
                (f"{name} alignment of {j} eigenvectors", float(values[min(j, self.n) - 1]), "", linear)
                for name, values in (("label", self.label_alignment), ("residual", self.residual_alignment))
                for j in (10, 100)
            ),
            ("log evidence", factor * self.log_evidence, unit, linear),
            ("information gain", factor * self.information_gain, unit, linear),
            ("KL from the prior", factor * self.kl, unit, linear),
            *(
                (name, factor * float(info.value), unit, f"{info.method}, stderr {factor * float(info.stderr):.2g}")
                for name, info in (("I(X;Z)", self.input_information), ("I(Y;Z)", self.label_information))
            ),
            *((f"coverage of {level:.0%} intervals", value, "", "measured") for level, value in self.coverage.items()),
            ("training mean squared error", self.train_mse, "", "measured"),
            ("test mean squared error", self.test_mse, "", "measured"),
            *((f"{part} error", value, "", "measured")
              for part, value in (("training", self.train_error), ("test", self.test_error)) if value is not None),
            ("disagreement of linearised training", float(self.disagreement[-1]), "", f"at t = {self.t[-1]:.4g}"),
            *((name, value, "", "upper bound on the error") for name, value in self.bounds.items()),
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["quantity", "value", "unit", "what"])
        frame.attrs["no_bounds"] = self.no_bounds
        return frame


def report(
    net: Any,
    data: Any,
    *,
    key: Array,
    noise: ArrayLike | str = "fit",
    prior_variance: ArrayLike | str = "fit",
    origin: str | None = None,
    delta: float = 0.05,
    n_samples: int = 64,
    progress: bool | None = None,
) -> NetworkReport:
    """What a network knows about data: its kernel, its Laplace posterior, its linearisation beside real training.

    Of several outputs the kernel is the average over them ("trace"), and the posterior that of outputs which share it.

    Args:
      net: a `Network` with parameters, or a pair (apply_fn, params).
      data: a `datasets.Dataset`, or whatever has x_train, y_train, x_test and y_test.
      key: random key, for information that is sampled (several outputs).
      noise: σ² of the Laplace posterior; "fit" takes that of largest evidence.
      prior_variance: τ²; "fit" likewise, and no bound follows then.
      origin: "initialisation" or "split" where the parameters saw none of the training data, as for
        `kernels.empirical`; None where they may have: no bound follows.
      delta: probability that a bound fails.
      n_samples: draws of z per test input, where information is sampled.
      progress: whether to show bars; None shows them for work that takes long.

    Returns:
      A `NetworkReport`; `to_dataframe` and `plot.network` show it.

    Raises:
      TypeError: no network with parameters, data without the arrays.
      ValueError: outputs of another shape than the labels; whatever `kernels.empirical` refuses.

    Source: theory, section 11.
    """
    # What it is made of stands above this package, which knows no kernels: imported where it is called.
    from ntkinfo import information, kernels
    from ntkinfo.posterior import Posterior

    net = as_network("net", net)
    check.fields("data", data, FIELDS, "Dataset", "`ni.datasets`")
    check.on_host({"key": key, "noise": noise, "prior_variance": prior_variance, "delta": delta})
    check.key("key", key)
    for name, value in (("noise", noise), ("prior_variance", prior_variance)):
        if isinstance(value, str):
            check.option(name, value, ("fit",))
        else:
            check.positive(name, value, scalar=True)
            check.number(name, value, *_VARIANCES)
    check.number("delta", delta, 0, 1, ends=False)
    check.integer("n_samples", n_samples, least=2)
    x, x_test = check.inputs("data.x_train", data.x_train), check.inputs("data.x_test", data.x_test)
    y, y_test = (check.array(f"data.{name}", getattr(data, name), (1, 2)) for name in ("y_train", "y_test"))
    y, y_test = (array[:, None] if array.ndim == 1 else array for array in (y, y_test))
    x_test, y, y_test = (array.astype(x.dtype) for array in (x_test, y, y_test))
    task = "regression" if getattr(data, "task", None) == "regression" else "auto"
    _check_entropy(y_test, task)

    kernel = kernels.empirical(net, around="laplace", origin=origin)
    tangent = kernels.kernels(kernel, x, progress=progress).ntk
    post = Posterior.from_kernel(kernel, x, y, tangent, noise=noise, prior="ntk", mean=net, scale=prior_variance)
    fitted: Any = post.kernel_fn
    tau, sigma2 = float(fitted.prior_variance), float(post.noise)
    z, (start, start_test) = post.predict(x_test), _outputs(net, x, x_test)
    if not (np.asarray(z.variance) > 0).all():
        raise ValueError("`data.x_test` must have outputs that depend on the parameters; the variance of some is 0.")
    options = {} if z.mean.shape[-1] == 1 else {"key": key, "n_samples": n_samples}
    classes = None if task == "regression" else getattr(data, "labels_test", None)
    labels = y_test if classes is None else classes
    decoder = {"noise": sigma2} if task == "regression" else options
    eigenvalues = np.maximum(np.asarray(post.eigenvalues)[::-1], 0.0)
    losses = {name: _measured(information, value, wanted, task) for name, value, wanted in
              (("train", start, y), ("test", start_test, y_test))}  # fmt: skip
    bounds, no_bounds = _bounds(information, post, y, task, delta)
    return NetworkReport(
        n=len(x),
        m=len(x_test),
        k=y.shape[1],
        n_parameters=net.n_parameters,
        eigenvalues=eigenvalues / tau,
        prior_variance=tau,
        noise=sigma2,
        effective_dimension=float(y.shape[1] * np.sum(eigenvalues / (eigenvalues + sigma2))),
        label_alignment=_alignment(post, y),
        residual_alignment=_alignment(post, np.asarray(y) - start),
        log_evidence=float(post.log_marginal_likelihood),
        information_gain=float(post.information_gain),
        kl=float(post.kl),
        input_information=information.input_information(z, **options),
        label_information=information.label_information(z, labels, task=task, **decoder),
        mean=np.asarray(z.mean),
        std=np.sqrt(np.asarray(z.variance)),
        coverage=_coverage(z, y_test, sigma2),
        train_mse=losses["train"][0],
        test_mse=losses["test"][0],
        train_error=losses["train"][1],
        test_error=losses["test"][1],
        **_agreement(net, x, y, x_test, float(eigenvalues[0]) / tau, key, progress),
        bounds=bounds,
        no_bounds=no_bounds,
    )


def _check_entropy(y_test, task) -> None:
    """Refuses numbers as labels that have no entropy to compare I(Y;Z) with."""
    read = _labels.read("data.y_test", y_test, len(y_test), task)
    try:
        _labels.entropy(read)
    except ValueError as error:
        rank = np.linalg.matrix_rank(np.asarray(y_test) - np.mean(y_test, axis=0)[None])
        raise ValueError(
            "`data.y_test` must hold numbers that vary, in more rows than outputs, or classes (±1, one-hot): h(Y) is "
            f"that of their covariance; got shape {y_test.shape}, of rank {rank} about the mean."
        ) from error


def _outputs(net, x, x_test) -> tuple[np.ndarray, np.ndarray]:
    """Outputs at both, by one program for neighbouring numbers of inputs."""
    function, state = net.taken_apart
    both = np.concatenate([np.asarray(x), np.asarray(x_test)])
    outputs = padding.rowwise(lambda rows: called(function, net.params, state, rows), both)
    outputs = np.asarray(outputs)
    return outputs[: len(x)], outputs[len(x) :]


def _alignment(post, values) -> np.ndarray:
    squares = np.sum((np.asarray(post.eigenvectors).T @ np.asarray(values)) ** 2, axis=1)[::-1]
    return np.cumsum(squares) / max(float(np.sum(squares)), np.finfo(squares.dtype).tiny)


def _measured(information, outputs, y, task) -> tuple[float, float | None]:
    """Squared error and 0-1 error of given outputs."""
    from ntkinfo.gaussian import Gaussian

    found = information.losses(Gaussian(outputs, np.zeros(len(outputs), outputs.dtype)), y, task=task)
    return float(found.mean_mse), None if found.mean_error is None else float(found.mean_error)


def _coverage(z, y, noise) -> dict[float, float]:
    """Shares of labels within central intervals of the predictions with noise."""
    scale = np.sqrt(np.asarray(z.variance) + noise)[:, None]
    distance = np.abs(np.asarray(y) - np.asarray(z.mean)) / scale
    quantiles = {level: float(jax.scipy.stats.norm.ppf(0.5 + level / 2)) for level in _LEVELS}
    return {level: float(np.mean(distance <= quantile)) for level, quantile in quantiles.items()}


def _bounds(information, post, y, task, delta) -> tuple[dict[str, float], str | None]:
    """Bounds on the 0-1 error of a network drawn from the posterior, and why there are none."""
    from ntkinfo import bounds

    risk = information.losses(post.predict_train(), y, task=task).gibbs_error
    if risk is None:
        return {}, "The labels are no classes: bounds are of the 0-1 error."
    try:
        functions = {"PAC-Bayes-kl": bounds.pac_bayes_kl, "McAllester": bounds.mcallester, "Catoni": bounds.catoni}
        found = {name: float(function(risk, post, n=len(y), delta=delta)) for name, function in functions.items()}
    except ValueError as error:
        return {}, str(error)
    return found, None


def _agreement(net: Network, x, y, x_test, largest: float, key, progress) -> dict[str, np.ndarray]:
    """Training on from θ₀ by gradient descent, of the network and of its linearisation, by the same steps."""
    from ntkinfo import finite

    rate = _STEP_SHARE * 2 * y.size / (largest * y.shape[1])
    t = rate * np.array([0, 1, 2, 5, 10, 20, 50, 100, _STEPS])
    options = {"n_networks": 1, "key": key, "x_test": x_test, "learning_rate": rate}
    options |= {"method": "heun", "progress": progress, "train_outputs": False}
    runs = []
    for one in (net, linearised(net, x.dtype)):
        try:
            runs.append(finite.train(one.continued(), x, y, t, **options))
        except finite.DivergedError:
            runs.append(None)
    missing = np.full(len(t), np.nan)
    real, linear = runs
    if real is None or linear is None:
        disagreement = missing
    else:
        linear_outputs, real_outputs = (np.asarray(run.outputs)[0] for run in (linear, real))
        moved = linear_outputs - linear_outputs[:1]
        apart = linear_outputs - real_outputs
        with np.errstate(invalid="ignore", divide="ignore"):
            disagreement = np.sqrt(np.sum(apart**2, axis=(1, 2)) / np.sum(moved**2, axis=(1, 2)))
        disagreement[0] = np.nan
    return {
        "t": t,
        "disagreement": disagreement,
        "linear_mse": missing if linear is None else np.asarray(linear.loss)[0],
        "real_mse": missing if real is None else np.asarray(real.loss)[0],
    }


# Kept, so that training it again finds its program.
@functools.lru_cache(maxsize=2)
def linearised(net: Network, dtype) -> Network:
    """f(x; θ₀) + J(x)(θ - θ₀), a network that is linear in its parameters and starts at θ₀."""
    function, state = net.taken_apart
    start = cast(net.params, dtype)

    def apply(params, x):
        moved = jax.tree.map(jnp.subtract, params, start)
        value, change = jax.jvp(lambda params: function(params, state, x), (start,), (moved,))
        return value + change

    return dataclasses.replace(net, apply=apply)
