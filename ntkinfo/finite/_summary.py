"""Quantities of an ensemble estimated from a sample of trained finite networks, with standard errors over networks.

Linear quantities are averages. The others (squared error of the mean, information, divergence) are functions of the
mean and variance of the outputs at each input; they are corrected for bias, and their errors found, by the jackknife.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkinfo import gaussian, information, mixture
from ntkinfo._common import check, labels
from ntkinfo.finite._run import Run
from ntkinfo.gaussian import Gaussian

# Networks are left out in at most this many groups; a standard error from G groups is known to about 1/√(2 G).
_GROUPS = 32


def summary(
    run: Run,
    y_test: Float[ArrayLike, "m ..."] | None = None,
    *,
    control: Run | None = None,
    prior: Float[ArrayLike, " m"] | None = None,
    noise: float = 1.0,
    method: str | None = None,
    key: Array | None = None,
    n_samples: int = 64,
    label_entropy: float | None = None,
    task: str = "auto",
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The quantities of a `Curve`, estimated from the networks of a `Run`; what `ntkinfo.plot.finite` draws.

    Information and divergence are those of Gaussians with the sampled means and variances at each input, as in the
    infinite ensemble; the outputs of finite networks are Gaussian only in the limit of infinite width.

    Args:
      run: of `ntkinfo.finite.train`, at least 4 networks. Without test outputs only quantities of training are found.
      y_test: test labels, (m, k) or (m,), floating point; None leaves out what needs them.
      control: a run of the same networks at the same times whose expectations are known, as `kernel_flow` makes; each
        estimate is then that of the difference `run` - `control`, with the (much smaller) error of the difference.
      prior: variances K(x, x) of the outputs at initialisation, (m,), for `output_divergence`; None takes those sampled
        at t = 0, and leaves the divergence out where 0 is not among the times.
      noise: variance σ² of the log-likelihoods, and of the decoder for real labels.
      method: estimator of the information given means and variances, as in `ntkinfo.information.input_information`.
      key: random key, for k > 1 and the sampled methods.
      n_samples: draws of z per input, for the sampled methods.
      label_entropy: h(Y) in nats where known, for real labels.
      task: "auto", "classes" or "regression".

    Returns:
      Quantity name -> (t, mean, stderr), vectors (T,) in order of time, information in nats. Estimates, unbiased
      (`mean_mse`, `train_mean_mse` and the averages over networks) or with bias of order 1/N²: they may come out
      below 0 where the truth is close to it. `mean_error` and `output_divergence_joint` are not estimated: the first
      is not smooth, the second needs more networks than inputs.

    Raises:
      TypeError: labels that are not floating-point numbers.
      ValueError: fewer than 4 networks, shapes that do not fit, a missing key, a variance that vanishes.

    Source: Busing et al. 1999 (Statistics and Computing 9, 3) for the jackknife with unequal groups.
    """
    check.on_host(locals())
    check.instance("run", run, Run, maker="`finite.train`")
    if control is not None:
        check.instance("control", control, Run, maker="`finite.kernel_flow`")
    if key is not None:
        check.key("key", key)
    check.option("method", method, (None, *mixture.METHODS))
    check.integer("n_samples", n_samples)
    check.positive("noise", noise, scalar=True)
    if label_entropy is not None:
        labels.check_entropy(label_entropy)
    check.option("task", task, labels.TASKS)
    if prior is not None:
        check.positive("prior", prior)
    if len(run.loss) < 4:
        raise ValueError(f"`run` must hold at least 4 networks for standard errors; got {len(run.loss)}.")
    t, run = _in_order(run)
    read = None
    if y_test is not None and run.outputs is not None:
        read = _read(y_test, run.outputs.shape[2:], task)
        if read.classes is None and label_entropy is None:
            label_entropy = labels.entropy(read)
    options = (t, read, prior, noise, label_entropy, {"method": method, "key": key, "n_samples": n_samples})
    averages, functions, sampling = _quantities(run, *options)
    if control is not None:
        t_control, control = _in_order(control)
        if control.loss.shape != run.loss.shape or not np.array_equal(t_control, t):
            raise ValueError(f"`control` must hold the networks and times of `run`, {run.loss.shape}; it does not.")
        of_control, functions_of_control, _ = _quantities(control, *options)
        averages = {name: values - of_control[name] for name, values in averages.items() if name in of_control}
        functions = {
            name: values - functions_of_control[name]
            for name, values in functions.items()
            if name in functions_of_control
        }
    sizes = _sizes(_groups(len(run.loss)))
    estimates = {name: _average(values) for name, values in averages.items()}
    estimates |= {name: _jackknife(values, sizes) for name, values in functions.items()}
    for name in ("output_divergence", "gibbs_nll", "ensemble_nll"):
        if name in estimates:
            check.finite_result(f"the {name}", estimates[name], "`prior` and `noise`")
    # The draws of z are the same for all groups (and for the control), so the jackknife does not see their error.
    estimates |= {name: (estimates[name][0], np.hypot(estimates[name][1], error)) for name, error in sampling.items()}
    return {name: (t, mean, stderr) for name, (mean, stderr) in estimates.items()}


def _quantities(run, t, read, prior, noise, label_entropy, estimator):
    """What is averaged over networks, (N, T); functions of moments, (G + 1, T); sampling errors of the latter, (T,)."""
    k = run.y.shape[1]
    averages = {"train_gibbs_mse": 2 * k * run.loss}
    for name in ("parameter_distance", "action", "fisher_action", "fisher_trace"):
        if getattr(run, name) is not None:
            averages[name] = getattr(run, name)
    functions, sampling = {}, {}
    if run.train_outputs is not None:
        functions["train_mean_mse"] = _mean_mse(_moments(run.train_outputs), run.y)
    if run.outputs is None:
        return averages, functions, sampling
    z = _moments(run.outputs)
    if read is not None:
        averages |= _losses_per_network(run.outputs, read, noise)
        functions["mean_mse"] = _mean_mse(z, read.targets)
        losses = information.losses(z, read.targets, noise=noise, task="regression")
        functions["ensemble_nll"] = np.asarray(losses.ensemble_nll)
    divergence = _divergence(z, prior, t)
    if divergence is not None:
        functions["output_divergence"] = np.asarray(divergence)
    for name, estimate in _informations(z, read, noise, label_entropy, estimator).items():
        functions[name], sampling[name] = np.asarray(estimate.value), np.asarray(estimate.stderr)[0]
    return averages, functions, sampling


def _in_order(run):
    """Times in ascending order, and the run with them, as arrays of the host."""
    t = np.atleast_1d(np.asarray(run.t, np.float64))
    order = np.argsort(t, kind="stable")

    def arranged(leaf):
        if leaf is None:
            return None
        leaf = np.asarray(leaf, np.float64)
        return (leaf if run.t.ndim else leaf[:, None])[:, order]

    names = ("outputs", "train_outputs", "loss", "parameter_distance", "action", "fisher_action", "fisher_trace")
    return t[order], run._replace(y=np.asarray(run.y), **{name: arranged(getattr(run, name)) for name in names})


def _read(y_test, shape, task):
    read = labels.read("y_test", y_test, shape[0], task)
    if read.targets is None or read.targets.shape != shape:
        got = "integers" if read.targets is None else str(read.targets.shape)
        raise ValueError(f"`y_test` must be floating-point targets of shape (m, k) = {shape}; got {got}.")
    return read


def _average(values):
    """Mean over networks (N, T) and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _losses_per_network(outputs, read, noise):
    """Losses of each network, (N, T)."""
    targets, k = np.asarray(read.targets), outputs.shape[-1]
    squared = np.mean(np.sum((outputs - targets) ** 2, axis=-1), axis=-1)
    losses = {
        "gibbs_mse": squared,
        "gibbs_nll": 0.5 * (k * np.log(2 * np.pi * noise) + squared / noise),
    }
    if read.classes is not None:
        if k == 1:
            wrong = 0.5 * (1 - np.sign(outputs[..., 0] * targets[:, 0]))
        else:
            wrong = np.argmax(outputs, axis=-1) != np.asarray(read.classes)
        losses["gibbs_error"] = np.mean(wrong, axis=-1)
    return losses


def _groups(n_networks):
    return np.array_split(np.arange(n_networks), min(n_networks, _GROUPS))


def _sizes(groups):
    """How many networks are left: all, and all but each group, (G + 1,)."""
    sizes = np.array([0] + [len(group) for group in groups])
    return sizes.sum() - sizes


def _moments(outputs) -> Gaussian:
    """Means and variances over all networks, and over all but one group: (G + 1, T, m, k) and (G + 1, T, m)."""
    groups = _groups(len(outputs))
    mean = outputs.mean(axis=0)
    # About the overall mean: sums of squares of raw outputs would cancel at late times.
    centred = outputs - mean
    squares = centred**2
    left_out = [np.zeros_like(mean)] + [centred[group].sum(axis=0) for group in groups]
    squares_out = [np.zeros_like(mean)] + [squares[group].sum(axis=0) for group in groups]
    count = _sizes(groups)[:, None, None, None]
    shift = -np.stack(left_out) / count
    variance = (squares.sum(axis=0) - np.stack(squares_out) - count * shift**2) / (count - 1)
    return Gaussian(jnp.asarray(mean + shift), jnp.asarray(variance.mean(axis=-1)))


def _mean_mse(z, y):
    """‖μ - y‖², (G + 1, T), as sampled: the jackknife takes away the variance of the mean, exactly."""
    return np.mean(np.sum((np.asarray(z.mean) - np.asarray(y)) ** 2, axis=-1), axis=-1)


def _divergence(z, prior, t):
    """Mean KL from the prior over inputs, (G + 1, T), or None without a prior."""
    m = z.mean.shape[-2]
    if prior is not None:
        prior = check.array("prior", prior, 1)
        if prior.shape != (m,):
            raise ValueError(f"`prior` must have shape (m,) = {(m,)}; got {prior.shape}.")
        check.positive("prior", prior)
        prior = jnp.broadcast_to(prior, z.variance.shape)
    elif t[0] == 0:
        prior = jnp.broadcast_to(z.variance[:, :1], z.variance.shape)
    else:
        return None
    return jnp.mean(gaussian.kl_divergence(z, Gaussian(jnp.zeros_like(z.mean), prior)), axis=-1)


def _informations(z, read, noise, label_entropy, estimator):
    m = z.mean.shape[-2]
    classes = None if read is None else read.classes
    one_hot = jnp.ones((m, 1)) if read is None or classes is None else labels.one_hot(classes, read.n_classes)
    of_input, of_label = mixture.pair(z.mean, z.variance, jnp.asarray(one_hot, z.mean.dtype), **estimator)
    result = {"input_information": of_input}
    if classes is not None:
        result["label_information"] = of_label
    elif read is not None:
        result["label_information"] = information.label_information(
            z, read.targets, method="decoder", noise=noise, label_entropy=label_entropy, task="regression"
        )
    return result


def _jackknife(values, sizes):
    """Estimate without bias of order 1/N, and standard error, (T,), from values (G + 1, T): of all, all but a group."""
    values = np.asarray(values, np.float64)
    whole, without = values[0], values[1:]
    n_networks, share = sizes[0], (sizes[1:] / sizes[0])[:, None]
    estimate = len(without) * whole - np.sum(share * without, axis=0)
    weight = n_networks / (n_networks - sizes[1:])[:, None]
    pseudo = weight * whole - (weight - 1) * without
    return estimate, np.sqrt(np.mean((pseudo - estimate) ** 2 / (weight - 1), axis=0))
