"""Hyperparameters of largest evidence, or of best predictions with one label left out, by their gradients.

The objective is computed by its own Cholesky factorisation of Q + σ²I, in float64, and L-BFGS moves the logarithms of
the parameters: all are positive.
"""

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ntkinfo import kernels, networks
from ntkinfo._common import check, compiling, labels, memory, parallel, progress, pytree, tables
from ntkinfo._numerics import padding
from ntkinfo.posterior import _per_label

if TYPE_CHECKING:
    import pandas as pd

OBJECTIVES = ("evidence", "leave_one_out")
# The derivative by each logarithm, in nats per label, from which on the search has not converged.
_FLAT = 1e-5
# An objective that is not finite counts as so many nats per label less than the worst seen: the search steps back.
_REFUSED = 10.0
# Matrices n x n held at once: the kernel, its factors and their derivatives.
_COPIES = 8


@pytree.dataclass("objective", "at_limit", "converged", "n_steps")
class LearnedPosterior:
    """A posterior whose hyperparameters were learned from its labels. Made by `Posterior.learn`.

    Attributes:
      posterior: the `Posterior` at the parameters found; its prior has seen the data.
      parameters: by the names of `init`; "noise" is σ², a scalar or (k,).
      value: the objective at the parameters found, in nats, a scalar.
      gradient: its derivatives by the logarithms of the parameters, in nats, by the same names.
      path: the objective after each step, from that of `init` on, (n_steps + 1,).
      objective: "evidence", log p(Y|X), or "leave_one_out", Σ_i log p(y_i | all other labels).
      at_limit: names of the parameters that ended at `factor` times their start, or that part of it.
      converged: whether derivatives vanish, of those at the limit up to those that lead beyond it.
      n_steps: steps of L-BFGS.
    """

    posterior: Any
    parameters: dict[str, jax.Array]
    value: jax.Array
    gradient: dict[str, jax.Array]
    path: jax.Array
    objective: str
    at_limit: tuple[str, ...]
    converged: bool
    n_steps: int

    _repr_html_ = tables.html

    def _to_stored(self) -> dict[str, Any]:
        # The posterior by its fields: the network that it needs is made of the parameters beside them.
        return {name: getattr(self, name) for name in pytree.field_names(self)} | {
            "posterior": self.posterior._to_stored()
        }

    @classmethod
    def _from_stored(cls, fields: dict[str, Any], net: Any, mean: Any) -> "LearnedPosterior":
        from ntkinfo.posterior._posterior import Posterior

        missing = {*pytree.field_names(cls)} ^ set(fields)
        if missing or not all(isinstance(fields[name], dict) for name in ("posterior", "parameters", "gradient")):
            raise ValueError(f"`path` holds no `LearnedPosterior` of this version: {', '.join(sorted(missing))[:80]}.")
        if callable(net) and not check.takes(net, 3):
            try:
                net = net(_numbers(fields["parameters"]))
            except KeyError as error:
                raise ValueError(
                    f"`net` must make a network of the parameters in the file, {', '.join(fields['parameters'])}; it "
                    f"asks for {error}."
                ) from error
        return cls(**fields | {"posterior": Posterior._from_stored(fields["posterior"], net, mean)})

    def __repr__(self):
        found = _described(self.parameters)
        state = "converged" if self.converged else "not converged"
        return f"LearnedPosterior({found}; {self.objective} {float(self.value):.6g} nats, {state})"

    def to_dataframe(self, *, unit: str = "nats") -> "pd.DataFrame":
        """A pandas table with a row for each parameter: parameter, value, gradient, at_limit; `attrs` hold the rest.

        Args:
          unit: "nats" or "bits", of the gradient and of the objective.

        Raises:
          ValueError: an unknown unit.
          ImportError: pandas is missing.
        """
        scale, rows = tables.factor(unit), []
        for name, value in self.parameters.items():
            entries = zip(np.ravel(value), np.ravel(self.gradient[name]), strict=True)
            for index, (entry, slope) in enumerate(entries):
                label = name if np.ndim(value) == 0 else f"{name}[{index}]"
                rows.append((label, float(entry), scale * float(slope), name in self.at_limit))
        columns = dict(zip(("parameter", "value", "gradient", "at_limit"), zip(*rows, strict=True), strict=True))
        totals = {"objective": self.objective, "value": scale * float(self.value), "converged": self.converged}
        return tables.frame(columns, totals, unit)


def evidence(q, y, noise):
    """log N(Y; 0, (Q + σ²I) ⊗ I_k) in nats; with noise (k,) the sum over labels."""
    if np.ndim(noise):
        return _of_labels(evidence, q, y, noise)
    n, k = y.shape
    factor = jnp.linalg.cholesky(q + noise * jnp.eye(n, dtype=q.dtype))
    white = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
    return -0.5 * jnp.sum(white**2) - k * jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * n * k * np.log(2 * np.pi)


def leave_one_out(q, y, noise):
    """Σ_i log N(y_i; μ_{-i}, σ²_{-i}) in nats: each label, given all others, with its noise, a scalar or (k,)."""
    if np.ndim(noise):
        return _of_labels(leave_one_out, q, y, noise)
    n, k = y.shape
    factor = jnp.linalg.cholesky(q + noise * jnp.eye(n, dtype=q.dtype))
    inverse = jax.scipy.linalg.cho_solve((factor, True), jnp.eye(n, dtype=q.dtype))
    precision = jnp.diagonal(inverse)
    residuals = (inverse @ y) / precision[:, None]
    squares = jnp.sum(residuals**2, axis=1) * precision
    return 0.5 * jnp.sum(k * jnp.log(precision / (2 * np.pi)) - squares)


def _of_labels(objective, q, y, noise):
    return jnp.sum(jax.lax.map(lambda label: objective(q, label[0][:, None], label[1]), (y.T, noise)))


_OBJECTIVES = {"evidence": evidence, "leave_one_out": leave_one_out}


def learn(cls, build, x, y, init, noise, objective, prior, factor, max_steps, show) -> LearnedPosterior:
    """`Posterior.learn` of the class of posteriors."""
    import scipy.optimize

    check.option("objective", objective, OBJECTIVES)
    check.function("build", build, "a function of the parameters that returns a network", arguments=1)
    if prior is not None:
        check.option("prior", prior, ("nngp", "ntk"))
    max_steps = check.size("max_steps", max_steps)
    check.number("factor", factor, low=1.0, high=1e12, ends=False)
    check.flag("progress", show, none=True)
    x = check.inputs("x", x)
    y = labels.real_targets("y", y, len(x)).astype(x.dtype)
    init = _check_init(init, noise, y.shape[1])
    noise = np.asarray(noise, np.float64) if np.ndim(noise) else noise
    for name, value in (("x", x), ("y", y)):
        check.known(name, value)
    memory.require(
        f"`x` with n = {len(x)} training inputs", _COPIES * 8 * len(x) ** 2, "Take fewer (memory grows with n²)."
    )
    with parallel.enable_x64(True):
        start, unravel = ravel_pytree({name: jnp.asarray(np.log(value)) for name, value in init.items()})
        rows, targets = (jnp.asarray(np.asarray(value, np.float64)) for value in (x, y))
        kernel = _prior_name(build, init, prior)
        shapes = tuple((name, np.shape(value)) for name, value in init.items())
        probe = _probe(build, shapes)
        program = _program(build, probe, shapes, objective, kernel)
        fixed = None if noise is None else jnp.asarray(noise, np.float64)
        count, found = targets.size, {}

        def function(logs, x, y):
            return program(logs, x, y, fixed)

        worst = None

        def negative(logs):
            nonlocal worst
            value, slope = (np.asarray(each) for each in function(jnp.asarray(logs), rows, targets))
            if not (np.isfinite(value) and np.isfinite(slope).all()):
                if worst is None:
                    raise ValueError(
                        f"`init` must give a finite objective; got {float(value)} at {_described(init)}: Q + σ²I is "
                        "not positive definite there, or its derivatives are not finite. Start with a larger noise."
                    )
                return worst + _REFUSED, np.zeros_like(slope)
            worst = max(-value / count, -np.inf if worst is None else worst)
            found[logs.tobytes()] = (float(value), slope)
            return -value / count, -slope / count

        path = []
        with progress.bar(total=max_steps, desc="hyperparameters", unit="step", progress=show) as bar:

            def after_step(logs):
                path.append(found[logs.tobytes()][0] if logs.tobytes() in found else -count * negative(logs)[0])
                bar.update()

            after_step(np.asarray(start))
            reach = np.log(float(factor))
            limits = [(low, high) for low, high in zip(start - reach, start + reach, strict=True)]
            result = scipy.optimize.minimize(
                negative,
                np.asarray(start),
                jac=True,
                method="L-BFGS-B",
                bounds=limits,
                callback=after_step,
                options={"maxiter": max_steps, "ftol": 1e-15, "gtol": _FLAT * 1e-2, "maxls": 40},
            )
        negative(result.x)
        value, slope = found[result.x.tobytes()]
        below, above = (np.abs(result.x - np.array(limits)[:, side]) < 1e-9 for side in (0, 1))
        inward = np.where(below, np.maximum(slope, 0.0), np.where(above, np.minimum(slope, 0.0), slope))
        converged = bool(np.abs(inward).max() <= _FLAT * count)
        parameters = {name: np.exp(np.asarray(one)) for name, one in unravel(jnp.asarray(result.x)).items()}
        gradient = {name: np.asarray(one) for name, one in unravel(jnp.asarray(slope)).items()}
        touched = {name: np.asarray(one).any() for name, one in unravel(jnp.asarray(1.0 * (below | above))).items()}
    at_limit = tuple(name for name, yes in touched.items() if yes)
    _warn(objective, parameters, at_limit, converged, len(path) - 1, factor)
    variance = _plain(parameters["noise"]) if "noise" in parameters else noise
    net = build(_numbers(parameters))
    if len(x) > padding.SMALL or x.ndim > 2 or isinstance(net, kernels.EmpiricalKernel | kernels.FeatureKernel):
        posterior = cls.fit(net, x, y, noise=variance, prior=kernel, prior_saw_data=True, progress=show)
    else:
        # By a program of which the parameters are arguments: that of a network has them as constants.
        rows = padding.repeat_last(np.asarray(x), padding.near(len(x)))
        q = padding.cut(_prior_kernel(build, probe, kernel)(_numbers(parameters), rows), 2 * x.shape[:1])
        kernel_fn = networks.kernel_function(net)
        posterior = cls.from_kernel(kernel_fn, x, y, q, noise=variance, prior=kernel, prior_saw_data=True)
    arrays = ({name: jnp.asarray(one) for name, one in each.items()} for each in (parameters, gradient))
    parameters, gradient = arrays
    numbers = (jnp.asarray(np.array(value)), gradient, jnp.asarray(np.array(path)))
    return LearnedPosterior(posterior, parameters, *numbers, objective, at_limit, converged, len(path) - 1)


def _probe(build: Callable, shapes: tuple) -> Any:
    """What `build` makes of ones: the same kernel function as long as it makes the same networks, whatever it reads.

    Equal networks are one object; what changes between calls (a depth that `build` looks up) makes another one, and
    programs are compiled anew.
    """
    try:
        ones = {name: _plain(np.ones(shape)) for name, shape in shapes if name != "noise"}
        found = networks.kernel_function(build(ones))
        hash(found)
    except Exception:
        return object()
    return found


@functools.lru_cache(maxsize=16)
def _program(build: Callable, probe: Any, shapes: tuple, objective: str, prior: str):
    """The objective in nats and its gradient, of the logarithms of the parameters, inputs, targets and a fixed noise.

    Kept for the same function `build`, of the same `_probe`.
    """
    _, unravel = ravel_pytree({name: np.zeros(shape) for name, shape in shapes})

    def value(logs, x, y, noise):
        parameters = {name: jnp.exp(one) for name, one in unravel(logs).items()}
        variance = parameters.pop("noise", noise)
        q = getattr(kernels.evaluate(networks.kernel_function(build(parameters)), x), prior)
        return _OBJECTIVES[objective](0.5 * (q + q.T), y, variance)

    return compiling.jit(jax.value_and_grad(value))


@functools.lru_cache(maxsize=16)
def _prior_kernel(build: Callable, probe: Any, prior: str):
    """The prior kernel (n, n) of parameters and inputs (n, ...)."""

    def kernel(parameters, x):
        return getattr(kernels.evaluate(networks.kernel_function(build(parameters)), x), prior)

    return compiling.jit(kernel)


def _prior_name(build, init, prior) -> str:
    """The kernel asked for, or that of the kernel function, made once of known parameters."""
    try:
        kernel_fn = networks.kernel_function(build({name: value for name, value in init.items() if name != "noise"}))
    except KeyError as error:
        raise ValueError(f"`init` must name every parameter that `build` reads; got none named {error}.") from error
    except TypeError as error:
        raise TypeError(f"`build` must return a network for the parameters of `init`; got: {error}") from error
    return prior or getattr(kernel_fn, "default_prior", "nngp")


def _check_init(init, noise, k: int) -> dict[str, Any]:
    if not isinstance(init, dict) or not init or not all(isinstance(name, str) for name in init):
        raise TypeError(f"`init` must be a dictionary of parameters by name, not empty; got {check.described(init)}.")
    parameters = {}
    for name, value in init.items():
        check.known("init", value)
        check.positive(f"init: {name}", value)
        host = np.asarray(check.values(f"init: {name}", value), np.float64)
        parameters[name] = float(host) if host.ndim == 0 else host
    if ("noise" in parameters) != (noise is None):
        raise ValueError(
            '`noise` must be given either here, and stays, or in `init` as "noise", and is learned; got '
            f"{'both' if noise is not None else 'neither'}."
        )
    if noise is not None:
        check.known("noise", noise)
        if isinstance(noise, str):
            raise TypeError(f'`noise` must be a number; got {noise!r}. It is learned where `init` has a "noise".')
    _per_label.check_noise(*((noise, k) if noise is not None else (parameters["noise"], k, "init: noise")))
    return parameters


def _numbers(parameters) -> dict[str, Any]:
    """The parameters as `build` takes them, without the noise."""
    return {name: _plain(value) for name, value in parameters.items() if name != "noise"}


def _plain(value):
    return float(value) if np.ndim(value) == 0 else np.asarray(value)


def _described(init) -> str:
    return ", ".join(f"{name} = {np.array2string(np.asarray(value), precision=4)}" for name, value in init.items())


def _warn(objective, parameters, at_limit, converged, n_steps, factor) -> None:
    if at_limit:
        warnings.warn(
            f"the {objective} still grows where the search for {' and '.join(at_limit)} had to end, {factor:g} times "
            f"the start or that part of it: {_described({name: parameters[name] for name in at_limit})}. Start "
            "elsewhere, or fix it at a value you can defend.",
            stacklevel=4,
        )
    elif not converged:
        warnings.warn(
            f"the {objective} is not at its largest value after {n_steps} steps: see `gradient`. Take more "
            "`max_steps`, or start elsewhere.",
            stacklevel=4,
        )
