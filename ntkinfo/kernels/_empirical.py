"""Empirical kernels: the tangent kernel of one given network, or of several initialisations.

The kernel of the linearised network f(x; θ₀) + J(x)(θ - θ₀). An `EmpiricalKernel` is a kernel function like any other,
and says besides whose distribution it stands for, where its parameters come from, and f(x; θ₀), the mean around it.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import networks
from ntkinfo._common import check, compiling, memory, tracing
from ntkinfo._common import progress as progress_bar
from ntkinfo._numerics import padding
from ntkinfo.kernels import _structured
from ntkinfo.kernels._jacobian import SIDE_BY_SIDE as _SIDE_BY_SIDE
from ntkinfo.kernels._jacobian import TRIAL_ROWS as _TRIAL_ROWS
from ntkinfo.kernels._jacobian import add_block as _add
from ntkinfo.kernels._jacobian import gradient as _gradient
from ntkinfo.kernels._jacobian import gram as _gram
from ntkinfo.kernels._jacobian import rows as _jacobian
from ntkinfo.kernels._jacobian import seconds as _seconds
from ntkinfo.networks import Network

AROUND = ("one", "laplace", "ensemble")
ORIGINS = ("initialisation", "split")
METHODS = ("jacobian", "products", "structured")
# Two panels of the Jacobian may take so much, and no more than this share of what is free.
_PANEL_BYTES = 2**30
_PANEL_SHARE = 0.25
# Rows that outputs and products are computed of at once.
_CHUNK = 256
# Work expected to take longer than this many seconds is worth trying the other ways on a few rows first.
_WORTH_A_TRIAL = 20.0
# Up to so many rows are filled up to a number that neighbouring ones share: they compile longer than they compute.
_FILLED = 64


def empirical(
    net: Any,
    outputs: str | int = "trace",
    *,
    around: str = "one",
    prior_variance: ArrayLike = 1.0,
    origin: str | None = None,
    method: str | None = None,
) -> "EmpiricalKernel":
    """The empirical tangent kernel Θ̂_{ic,jc'} = ⟨∇f_c(x_i), ∇f_c'(x_j)⟩ of a network, as a kernel function.

    What `Ensemble.fit`, `Posterior.fit` and all else take as `net`. Whose distribution it stands for is said by
    `around`, and never exchanged in silence:

    - "one": one network. `Ensemble.fit` gives the mean of its linearised gradient flow, without variance;
      `Posterior.fit` the linearised Laplace posterior with prior variance 1.
    - "laplace": θ ~ N(θ₀, τ²I). Both kernels are τ²Θ̂: `Posterior.fit` gives the linearised Laplace posterior,
      `Ensemble.fit` linearised networks that start there (in parameters in units of τ).
    - "ensemble": N initialisations. K̂ is the sample covariance of their outputs, Θ̂ the mean of their kernels;
      `standard_error` says how sure both are.

    Pass `mean=net` to the makers as well, or f(x; θ₀) is taken for zero.

    Args:
      net: a `networks.Network` with parameters, or a pair (apply_fn, params); for "ensemble" a list of at least two.
      outputs: "trace" for (1/k) Σ_c Θ̂_{ic,jc}, which is Θ ⊗ I_k at infinite width only; "full" for the blocks
        (n k, n k) between the `rows` of inputs, one row for each output; or one output c, an integer. The last two are
        exact for the linearised network.
      around: "one", "laplace" or "ensemble".
      prior_variance: τ², for "laplace".
      origin: "initialisation" where the parameters saw no data, "split" where they saw other data than the posterior
        will; None where they may have seen them: bounds on the risk are then refused.
      method: "jacobian" multiplies rows of J, "products" goes through Θ̂v by a VJP and a JVP, "structured" takes
        neural-tangents' structured derivatives (which must be installed), often the fastest by far. None takes the
        first, and on long work whichever is faster on a few rows, the last only where it gives the same there.

    Returns:
      An `EmpiricalKernel`.

    Raises:
      TypeError: no network with parameters, or a module that needs an adapter (the message names it).
      ValueError: an unknown option; fewer than two networks for "ensemble", more than one otherwise.

    Source: theory, section 11; Jacot et al. 2018 (arXiv 1806.07572); Novak et al. 2022 (arXiv 2206.08720) for costs.
    """
    check.option("around", around, AROUND)
    check.option("origin", origin, (None, *ORIGINS))
    check.option("method", method, (None, *METHODS))
    if isinstance(outputs, str) or not isinstance(outputs, int | np.integer) or isinstance(outputs, bool):
        check.option("outputs", outputs, ("trace", "full"))
    else:
        outputs = check.integer("outputs", outputs, least=0)
    check.positive("prior_variance", prior_variance, scalar=True)
    if around != "laplace" and not (check.concrete(prior_variance) and float(prior_variance) == 1.0):
        raise ValueError(f'`prior_variance` must be left at 1 for around={around!r}; it belongs to "laplace".')
    several = isinstance(net, list)
    if several != (around == "ensemble") or (several and len(net) < 2):
        raise ValueError(
            '`net` must be a list of two networks or more for around="ensemble", and one network otherwise; got '
            f"{f'a list of {len(net)}' if several else check.described(net)}."
        )
    nets = tuple(networks.as_network("net", one) for one in (net if several else [net]))
    return EmpiricalKernel(nets, outputs, around, prior_variance, origin, method)


class EmpiricalKernel:
    """The tangent kernel of given networks as a kernel_fn(x1, x2, get). Made by `empirical`.

    Attributes:
      networks: the networks, one or N.
      outputs: "trace", "full", or one output.
      around: "one", "laplace" or "ensemble".
      prior_variance: τ².
      origin: "initialisation", "split" or None, where the parameters come from.
    """

    def __init__(self, nets: tuple[Network, ...], outputs, around, prior_variance, origin, method):
        self.networks = nets
        self.outputs = outputs
        self.around = around
        self.prior_variance = prior_variance
        self.origin = origin
        self.method = method
        self._checked: set[tuple] = set()
        self._outputs_of: dict[tuple, int] = {}

    def __repr__(self):
        return f"EmpiricalKernel({self.networks[0]!r}, outputs={self.outputs!r}, around={self.around!r})"

    @property
    def prior_saw_data(self) -> bool:
        """Whether the parameters may have seen the data."""
        return self.origin is None

    @property
    def default_prior(self) -> str:
        """The kernel that a posterior takes for its prior: one network has no covariance of outputs."""
        return "nngp" if self.around == "ensemble" else "ntk"

    def rank_limit(self, x: Array) -> int:
        """The largest rank that Θ̂ can have: P for each output and network that it is summed over."""
        summed = self._k(x) if self.outputs == "trace" else 1
        return self.networks[0].n_parameters * len(self.networks) * summed

    def leaving_out(self, index: int) -> "EmpiricalKernel":
        """The kernel of the other networks, for a jackknife; `index` from 0."""
        check.integer("index", index, least=0, most=len(self.networks) - 1)
        if len(self.networks) < 3:
            raise ValueError(f"`index` can leave one of three networks or more out; there are {len(self.networks)}.")
        rest = self.networks[:index] + self.networks[index + 1 :]
        return EmpiricalKernel(rest, self.outputs, self.around, self.prior_variance, self.origin, self.method)

    # Rows: for "full" each output of each input is one of its own.

    def rows(self, x: Float[ArrayLike, "n d ..."]) -> Float[Array, "nk e ..."]:
        """What kernels are between: the inputs; for "full" each of them k times, the output behind its features."""
        x = check.inputs("x", x)
        if self.outputs != "full":
            return x
        k = self._k(x)
        repeated = jnp.repeat(x, k, axis=0)
        which = jnp.tile(jnp.arange(k, dtype=x.dtype), len(x)).reshape(-1, *[1] * (x.ndim - 1))
        return jnp.concatenate([repeated, jnp.broadcast_to(which, (len(repeated), 1, *x.shape[2:]))], axis=1)

    def targets(self, y: Float[ArrayLike, "n k"]) -> Float[Array, "nk j"]:
        """Labels of the `rows`: for "full" a column (n k, 1)."""
        y = check.array("y", y, (1, 2))
        y = y[:, None] if y.ndim == 1 else y
        return y.reshape(-1, 1) if self.outputs == "full" else y

    def _apart(self, rows: Array) -> tuple[Array, Array | None]:
        """Inputs and outputs of rows."""
        if self.outputs != "full":
            return rows, None
        which = rows[:, -1].reshape(len(rows), -1)
        if check.concrete(rows):
            host = np.asarray(which)
            if rows.shape[1] < 2 or (host != np.maximum(np.round(host[:, :1]), 0)).any():
                raise ValueError(
                    'Inputs of a kernel with outputs="full" must be its rows, one for each output of each input; take '
                    f"`kernel.rows(x)`. Got shape {rows.shape}."
                )
        return rows[:, :-1], jnp.round(which[:, 0]).astype(jnp.int32)

    def _k(self, x: Array) -> int:
        # Found by tracing the network, which takes longer than a small kernel.
        kind = (x.shape[1:], str(x.dtype))
        if kind not in self._outputs_of:
            self._outputs_of[kind] = networks.output_shape("net", self.networks[0], x)
        return self._outputs_of[kind]

    def _check(self, x: Array) -> None:
        """Refuses, before anything long, networks without an output for each input; once for a shape of inputs."""
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"`x1` and `x2` must hold floating-point numbers; got dtype {x.dtype}. Convert them first, for "
                "instance with `np.asarray(x, float)`; a network that looks entries up by number converts its inputs "
                "itself (`x.astype(int)`)."
            )
        if x.shape in self._checked:
            return
        k = {net.check("net", x) for net in self.networks}
        if len(k) > 1:
            raise ValueError(f"`net` must be networks of equally many outputs; got {sorted(k)}.")
        if isinstance(self.outputs, int) and self.outputs >= min(k):
            raise ValueError(f"`outputs` must be one of the {min(k)} outputs, from 0; got {self.outputs}.")
        self._checked.add(x.shape)

    def mean(self, rows: Float[Array, "n d ..."]) -> Float[Array, "n j"]:
        """f(x; θ₀), averaged over networks: (n, k), or one column for one output and for rows of "full"."""
        x, which = self._apart(rows)
        values = [_outputs(net, x) for net in self.networks]
        value = functools.reduce(jnp.add, values) / len(values)
        if which is not None:
            return jnp.take_along_axis(value, which[:, None], axis=1)
        return value[:, self.outputs : self.outputs + 1] if isinstance(self.outputs, int) else value

    # The kernel function.

    def __call__(self, x1, x2=None, get: str | tuple[str, ...] = ("nngp", "ntk")):
        """Kernels between rows, by the names in `get`: "nngp", "ntk", or a tuple of them."""
        names = (get,) if isinstance(get, str) else tuple(get)
        for name in names:
            check.option("get", name, ("nngp", "ntk"))
        if check.concrete(x1, x2, self.networks[0].params, self.prior_variance):
            x1, x2 = jnp.asarray(x1), None if x2 is None else jnp.asarray(x2)
            values = self._known(x1, x2, names)
        else:
            values = self._named_kernels(self._traced(x1, x2), x1, x2, names)
        return values[0] if isinstance(get, str) else values

    def _traced(self, x1, x2):
        return sum(self._tangent(net, x1, x2) for net in self.networks) / len(self.networks)

    def _tangent(self, net, x1, x2):
        function, state = net.taken_apart
        total = 0.0
        parts = self._parts(x1, x2)
        for (a, b), weight in parts:
            first = _jacobian(function, net.params, state, *a, _SIDE_BY_SIDE)
            second = first if x2 is None else _jacobian(function, net.params, state, *b, _SIDE_BY_SIDE)
            total = total + weight * _gram(first, second)
        return total

    def _parts(self, x1, x2):
        """Pairs of (inputs, outputs) whose products add up to Θ̂, with their weights; the first twice for no second."""
        first, which1 = self._apart(x1)
        second, which2 = (first, which1) if x2 is None else self._apart(x2)
        if which1 is not None:
            return [(((first, which1), (second, which2)), 1.0)]
        classes = [self.outputs] if isinstance(self.outputs, int) else range(self._k(first))
        # On the host: so many small arrays would be calls of the device.
        pairs = [tuple((x, np.full(len(x), c, np.int32)) for x in (first, second)) for c in classes]
        return [(pair, 1.0 / len(pairs)) for pair in pairs]

    def _named_kernels(self, tangent, x1, x2, names):
        """Those of K and Θ that are asked for, from Θ̂, by whose distribution it is."""
        if self.around == "laplace":
            tangent = _times(tangent, self.prior_variance)
        if "nngp" not in names:
            return tuple(tangent for _ in names)
        return tuple(self._prior(tangent, x1, x2) if name == "nngp" else tangent for name in names)

    def _prior(self, tangent, x1, x2):
        """K: that of outputs, which one network has none of, and which the prior of "laplace" is the tangent one."""
        if self.around == "one":
            return jnp.asarray(np.zeros(tangent.shape, tangent.dtype))
        if self.around == "laplace":
            return tangent
        first = self._deviations(x1)
        second = first if x2 is None else self._deviations(x2)
        return _covariance(first, second)

    def member_tangents(self, x1: Array, x2: Array | None = None) -> np.ndarray:
        """Θ̂ of each network between rows, (N, a, b), on the host."""
        return np.stack([np.asarray(self._panels(net, x1, x2, None, False)) for net in self.networks])

    def _deviations(self, rows):
        """Outputs of each network less their mean, (N, n, j)."""
        return _less_mean(self.member_outputs(rows))

    def member_outputs(self, rows: Array) -> Array:
        """f(x; θ₀) of each network at rows, (N, n, j)."""
        x, which = self._apart(rows)
        values = _stacked([_outputs(net, x) for net in self.networks])
        if which is not None:
            values = jnp.take_along_axis(values, which[None, :, None], axis=2)
        elif isinstance(self.outputs, int):
            values = values[:, :, self.outputs : self.outputs + 1]
        return values

    # In blocks, outside of tracing.

    def blocks(
        self,
        x1: Array,
        x2: Array | None = None,
        *,
        batch_size: int | None = None,
        devices: Sequence | None = None,
        progress: bool | None = None,
    ) -> tuple[Array, Array]:
        """K and Θ̂ between rows (a, ...) and (b, ...), (a, b), in panels of rows whose Jacobian fits into memory.

        Panels of the first are dealt out to `devices`, in turn; None computes where the inputs are.

        Raises:
          TypeError, ValueError: as `networks.Network.check`; gradients that are NaN or infinite.
        """
        kernels = self._known(x1, x2, ("nngp", "ntk"), batch_size, progress, devices)
        return kernels[0], kernels[1]

    def _known(self, x1, x2, names, batch_size=None, progress=None, devices=None) -> tuple[Array, ...]:
        """Kernels of known values: inside a traced function they are computed with, not traced."""
        if not tracing.is_tracing():
            # Not in vain: within such a context JAX finds compiled programs by a slower way.
            return self._host_blocks(x1, x2, names, batch_size, progress, devices)
        with jax.ensure_compile_time_eval():
            return self._host_blocks(x1, x2, names, batch_size, progress, devices)

    def _host_blocks(self, x1, x2, names, batch_size, progress, devices) -> tuple[Array, ...]:
        self._check(self._apart(x1)[0])
        tangents = [self._panels(net, x1, x2, batch_size, progress, devices) for net in self.networks]
        total = tangents[0] if len(tangents) == 1 else sum(tangents) / len(tangents)
        if not np.isfinite(total).all():
            raise ValueError(
                "`net` must have finite gradients; its tangent kernel has NaN or infinite entries. Square roots, norms "
                "and divisions at 0 have such gradients: add a small constant inside."
            )
        return self._named_kernels(jnp.asarray(total), x1, x2, names)

    def standard_error(self, x1: Float[Array, "a d ..."], x2: Float[Array, "b d ..."] | None = None):
        """Standard errors of K̂ and Θ̂ over the N networks, a pair (a, b); for around="ensemble" only."""
        if self.around != "ensemble":
            raise ValueError(f'`around` must be "ensemble" for a standard error; it is {self.around!r}.')
        check.on_host({"x1": x1, "x2": x2})
        x1, x2 = self._named("x1", x1), None if x2 is None else self._named("x2", x2)
        tangents = self.member_tangents(x1, x2)
        first = self._deviations(x1)
        second = first if x2 is None else self._deviations(x2)
        return _standard_errors(first, second, tangents)

    def diagonal(self, x: Array, kernel: str) -> Array:
        """K(x, x) or Θ̂(x, x) at each row, (a,)."""
        inputs = self._apart(x)[0]
        self._check(inputs)
        if kernel == "nngp" and self.around == "one":
            return jnp.zeros(len(x), x.dtype)
        if kernel == "nngp" and self.around == "ensemble":
            return _variances(self._deviations(x))
        total = 0.0
        for net in self.networks:
            function, state = net.taken_apart
            norms = functools.partial(_squared_norms, function, net.params, state)
            for ((rows, c), _), weight in self._parts(x, None):
                total = total + weight * np.asarray(padding.rowwise(norms, rows, c))
        return _times(jnp.asarray(total / len(self.networks)), self.prior_variance if self.around == "laplace" else 1.0)

    def product(
        self, x1: Float[ArrayLike, "a d ..."], x2: Float[ArrayLike, "b d ..."] | None, v: Float[ArrayLike, "b c"]
    ) -> Float[Array, "a c"]:
        """Θ̂(x1, x2) v without forming Θ̂: a VJP and a JVP for each column (and output, for "trace").

        Args:
          x1: rows, (a, ...).
          x2: rows, (b, ...), or None for `x1`.
          v: (b, c), or (b,).

        Returns:
          (a, c), or (a,); times τ² for around="laplace".

        Raises:
          TypeError, ValueError: as `blocks`; shapes that do not fit.
        """
        x1 = self._named("x1", x1)
        x2 = x1 if x2 is None else self._named("x2", x2).astype(x1.dtype)
        v = check.array("v", v, (1, 2)).astype(x1.dtype)
        if len(v) != len(x2):
            raise ValueError(f"`v` must have a row for each of the {len(x2)} of `x2`; got shape {v.shape}.")
        columns = v[:, None] if v.ndim == 1 else v

        def parts():
            for net in self.networks:
                function, state = net.taken_apart
                for (a, b), weight in self._parts(x1, x2):
                    yield _times(_products(function, net.params, state, a, b, columns), weight / len(self.networks))

        total = functools.reduce(_sum, parts())
        total = _times(total, self.prior_variance) if self.around == "laplace" else total
        return total[:, 0] if v.ndim == 1 else total

    def _named(self, name: str, x: Any) -> Array:
        """Inputs that the networks take, or an error that names the argument."""
        x = check.inputs(name, x)
        try:
            self._check(self._apart(x)[0])
        except (TypeError, ValueError) as error:
            raise type(error)(f"`{name}` must hold inputs of the networks: {error}") from error
        return x

    def _panels(self, net, x1, x2, batch_size, progress, devices=None) -> np.ndarray | Array:
        """Θ̂ of one network in panels of rows, put together on the host."""
        if _structured.preferred(net, self.method, self.outputs, x1, x2, lambda: self._parts(x1[:_TRIAL_ROWS], None)):
            return _structured.panels(net, self.outputs, x1, x2, batch_size, progress, devices)
        symmetric = x2 is None
        total = np.zeros((len(x1), len(x1 if symmetric else x2)), x1.dtype)
        parts = self._parts(x1, x2)
        size = _panel_rows(net, x1.dtype, max(total.shape)) if batch_size is None else batch_size
        if devices:
            # A panel for each device at least; rows of the second are made on every one of them.
            size = max(1, min(size, -(-min(total.shape) // len(devices))))
        size1, size2 = (_panel_size(n, size) for n in total.shape)
        starts1, starts2 = range(0, len(x1), size1), range(0, total.shape[1], size2)
        # The side that fits into one panel is kept; else panels of the second are made again for each of the first.
        flip = not symmetric and len(starts2) > 1 and len(starts1) == 1
        if flip:
            starts1, starts2, size1, size2 = starts2, starts1, size2, size1
        work = [(i, j) for i in starts1 for j in starts2 if not symmetric or j >= i]
        places = list(devices or (None,))
        ways = [_Way(net, self.method, len(work) * len(parts), place) for place in places]
        turn = {i: index % len(places) for index, i in enumerate(starts1)}
        bar = progress_bar.bar(total=len(work) * len(parts), desc="empirical kernel", unit="block", progress=progress)
        with bar:
            for (a, b), weight in parts:
                a, b = (b, a) if flip else (a, b)
                kept: list[dict[Any, Array]] = [{} for _ in places]
                running: list = []
                for i, j in _side_by_side(work, turn):
                    first, second, at = _panel(a, i, size1), _panel(b, j, size2), turn[i]
                    running.append((i, j, ways[at].block(kept[at], (i, j), first, second, symmetric)))
                    # One block for each device at a time: what is kept is what fits.
                    if len(running) == len(places):
                        _add(total.T if flip else total, running.pop(0), (size1, size2), symmetric, weight)
                        bar.update()
                for done in running:
                    _add(total.T if flip else total, done, (size1, size2), symmetric, weight)
                    bar.update()
        return total


def _side_by_side(work, turn):
    """Blocks in an order in which devices take turns, those of one row of panels one after the other on its own."""
    queues: dict[int, list] = {}
    for i, j in work:
        queues.setdefault(turn[i], []).append((i, j))
    return [pair for pairs in itertools.zip_longest(*queues.values()) for pair in pairs if pair is not None]


@dataclasses.dataclass(frozen=True)
class _Mean:
    """A mean function of rows: of what computes outputs (n, k) of inputs, for the outputs of a kernel."""

    function: Callable
    kernel: EmpiricalKernel | None

    def __call__(self, rows):
        if self.kernel is None:
            return self.function(rows)
        x, which = self.kernel._apart(rows)
        value = self.function(x)
        if which is not None:
            return jnp.take_along_axis(value, which[:, None], axis=1)
        c = self.kernel.outputs
        return value[:, c : c + 1] if isinstance(c, int) and value.shape[1] > 1 else value


def mean_function(mean: Any, kernel_fn: Callable) -> Callable | None:
    """What `mean=` of a maker stands for, as a hashable function of rows (n, ...) -> (n, j); None for none.

    Args:
      mean: None; a `Network` with parameters or a pair (apply_fn, params); an `EmpiricalKernel`, for its networks'
        mean; or a function of inputs, x -> (n, k).
      kernel_fn: the kernel function, whose outputs the mean is for.

    Raises:
      TypeError: none of these.
    """
    if mean is None:
        return None
    behind = _behind(kernel_fn)
    kernel = behind if isinstance(behind, EmpiricalKernel) else None
    if isinstance(mean, EmpiricalKernel):
        return mean.mean
    if isinstance(mean, networks.Network | tuple):
        return _Mean(_NetworkMean(networks.as_network("mean", mean)), kernel)
    networks.refuse_module("mean", mean, "a `Network` with parameters, or a function x -> (n, k)")
    if callable(mean) and check.takes(mean, 1):
        return _Mean(mean, kernel)
    raise TypeError(
        "`mean` must be a `Network` with parameters, a pair (apply_fn, params), an empirical kernel, or a function "
        f"x -> (n, k); got {check.described(mean)}."
    )


@dataclasses.dataclass(frozen=True)
class _NetworkMean:
    net: Network
    # Shapes of inputs that the network was found to take: to look costs more than a small prediction.
    checked: set = dataclasses.field(default_factory=set, compare=False, repr=False)

    def __call__(self, x):
        kind = (x.shape, str(x.dtype))
        if kind not in self.checked:
            self.net.check("mean", x)
            if check.concrete(x):
                self.checked.add(kind)
        return _outputs(self.net, x)


def offset(mean_fn: Callable | None, rows: Array, k: int) -> Array | None:
    """The mean at rows, (n, k), in their dtype, checked; None for none.

    Raises:
      ValueError: a mean of another shape than the labels, NaN or Inf.
    """
    if mean_fn is None:
        return None
    value = jnp.asarray(mean_fn(rows), rows.dtype)
    if value.shape != (len(rows), k):
        raise ValueError(
            f"`mean` must return ({len(rows)}, {k}) numbers, as the labels have; got {value.shape}. Give the labels of "
            "all outputs, or one output to the kernel and its labels alone."
        )
    check.finite_result("the mean", value, "`mean` and its inputs")
    return value


def saw_data(kernel_fn: Callable, mean_fn: Callable | None, stated: bool | None) -> bool:
    """Whether kernel or mean were learned from the data: as `stated`, else as they say, a mean being taken to have."""
    answer = networks.saw_data(kernel_fn, stated)
    if answer or stated is not None or mean_fn is None:
        return answer
    kernel_fn = _behind(kernel_fn)
    known = isinstance(kernel_fn, EmpiricalKernel) and set(_networks_of(mean_fn)) <= set(kernel_fn.networks)
    return not known


def _behind(kernel_fn: Callable) -> Callable:
    """The empirical kernel whose features a kernel is given by; the kernel itself where there is none."""
    return getattr(kernel_fn, "empirical", None) or kernel_fn


def _networks_of(mean_fn) -> tuple:
    """The networks behind a mean function; itself where there are none."""
    if isinstance(mean_fn, _Mean):
        return (mean_fn.function.net,) if isinstance(mean_fn.function, _NetworkMean) else (mean_fn,)
    owner = getattr(mean_fn, "__self__", None)
    return owner.networks if isinstance(owner, EmpiricalKernel) else (mean_fn,)


def trained_on(kernel_fn: Callable, x: Array, y: Array) -> tuple[Array, Array]:
    """Inputs and labels as they are trained on: as they are, or the rows of an empirical kernel.

    Raises:
      ValueError: labels of other than all outputs, where each output of an input is a row.
    """
    if not isinstance(kernel_fn, EmpiricalKernel):
        return x, y
    rows, targets = kernel_fn.rows(x), kernel_fn.targets(y)
    if len(rows) != len(targets):
        k = len(rows) // len(x)
        given = y.shape[1] if y.ndim == 2 else 1
        raise ValueError(
            f'`y` must have the {k} outputs of the network, ({len(x)}, {k}), for a kernel with outputs="full"; got '
            f"{given}. Give `x` and `y` as they are, not `kernel.rows(x)`: rows are made of them."
        )
    return rows, targets


def inputs_like(name: str, x: Any, trained: Array, kernel_fn: Callable) -> Array:
    """`x` as inputs of the shape trained on, in their dtype; as `rows` of an empirical kernel with outputs="full"."""
    if isinstance(kernel_fn, EmpiricalKernel) and kernel_fn.outputs == "full":
        x = check.inputs(name, x)
        if (x.shape[1] + 1, *x.shape[2:]) == trained.shape[1:]:
            x = kernel_fn.rows(x)
    return check.inputs_like(name, x, trained)


def check_rank(kernel_fn: Callable, x: Array, singular: str) -> None:
    """Refuses more rows than an empirical kernel can have rank, unless null directions are to be projected out."""
    if not isinstance(kernel_fn, EmpiricalKernel) or singular != "error":
        return
    limit = kernel_fn.rank_limit(kernel_fn._apart(x)[0])
    if len(x) > limit:
        raise ValueError(
            f"`x` must have at most {limit} rows: the tangent kernel of `net` has no larger rank (parameters, for each "
            f'output summed over); got {len(x)}. Pass singular="project", which leaves the other directions '
            "unlearned, or take `Posterior.fit`, whose noise needs no inverse."
        )


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A kernel function times a number."""

    kernel_fn: Callable
    factor: Any

    @property
    def prior_saw_data(self) -> bool:
        """That of the kernel function."""
        return networks.saw_data(self.kernel_fn)

    def __call__(self, x1, x2, get):
        values = self.kernel_fn(x1, x2, get)
        return jax.tree.map(lambda value: self.factor * value, values)


def scaled(kernel_fn: Callable, factor: float) -> Callable:
    """`kernel_fn` times `factor`: of an empirical kernel the Laplace posterior's prior variance."""
    if isinstance(kernel_fn, EmpiricalKernel) and kernel_fn.around != "ensemble":
        nets, outputs, origin, method = kernel_fn.networks, kernel_fn.outputs, kernel_fn.origin, kernel_fn.method
        return EmpiricalKernel(nets, outputs, "laplace", factor * kernel_fn.prior_variance, origin, method)
    own = getattr(kernel_fn, "scaled", None)
    if own is not None:
        return own(factor)
    return Scaled(kernel_fn, factor)


def refuse_full(name: str, kernel_fn: Callable) -> None:
    """Refuses an empirical kernel with a row for each output, where each example must have one."""
    if getattr(kernel_fn, "outputs", None) == "full":
        raise ValueError(
            f"`{name}` must have one row for each example; got an empirical kernel with outputs='full', whose rows are "
            "single outputs of examples. Take outputs='trace'."
        )


class _Way:
    """How blocks of one network are computed on one device: by rows of the Jacobian, or by products."""

    def __init__(self, net: Network, method: str | None, n_blocks: int, device: Any = None):
        self.function, self.state = net.taken_apart
        self.params = net.params
        self.device = device
        if device is not None:
            self.params, self.state = jax.device_put((self.params, self.state), device)
        self.method = method or "jacobian"
        self.undecided = method is None
        self.side_by_side = _SIDE_BY_SIDE
        self.n_blocks = n_blocks

    def block(self, kept: dict, where, first, second, symmetric) -> Array:
        """Θ̂ between two panels; their Jacobians are kept while they are in use."""
        if self.device is not None:
            first, second = jax.device_put((first, second), self.device)
        if self.undecided:
            self._decide(first, second)
        if self.method == "products":
            return _by_products(self.function, self.params, self.state, first, second)
        i, j = where
        for key in [key for key in kept if key not in (("a", i), ("b", j))]:
            del kept[key]
        if ("a", i) not in kept:
            kept["a", i] = self._rows(first, self.side_by_side)
        if symmetric and i == j:
            return _gram(kept["a", i], kept["a", i])
        if ("b", j) not in kept:
            kept["b", j] = self._rows(second, self.side_by_side)
        return _gram(kept["a", i], kept["b", j])

    def _rows(self, part, side_by_side):
        return _jacobian(self.function, self.params, self.state, *part, side_by_side)

    def _decide(self, first, second) -> None:
        """Times a few rows of the Jacobian, and where all would take long, what else there is."""
        self.undecided = False
        few = tuple(array[:_TRIAL_ROWS] for array in first)
        if len(few[0]) * 2 > len(first[0]):
            return
        rows = self.n_blocks * len(first[0])
        seconds = _seconds(lambda: self._rows(few, self.side_by_side)) / len(few[0]) * rows
        if seconds < _WORTH_A_TRIAL:
            return
        # One gradient after the other: for convolutions on the CPU, vectorised gradients are slow.
        alone = _seconds(lambda: self._rows(few, 1)) / len(few[0]) * rows
        if alone < seconds:
            self.side_by_side, seconds = 1, alone
        one = tuple(array[:1] for array in second)
        products = _seconds(lambda: _by_products(self.function, self.params, self.state, first, one)) * rows
        if products < seconds:
            self.method = "products"


def _panel_rows(net: Network, dtype, n: int) -> int:
    """Rows of the Jacobian that two panels may hold."""
    there = memory.available()
    budget = _PANEL_BYTES if there is None else min(_PANEL_BYTES, _PANEL_SHARE * there)
    fits = max(1, int(budget / (net.n_parameters * np.dtype(dtype).itemsize)))
    # All rows at once where they fit, else two panels.
    return n if n <= fits else max(1, fits // 2)


def _panel_size(n: int, size: int) -> int:
    """Rows of a panel, so that panels are of nearly one size; of few rows so many that neighbours share it."""
    rows = -(-n // max(1, -(-n // size)))
    return padding.near(rows) if rows == n <= _FILLED else rows


def _panel(part, start: int, size: int):
    """Rows from `start`, the last repeated up to the one size compiled for."""
    rows, which = (padding.some(array, slice(start, start + size)) for array in part)
    if len(rows) == size:
        return rows, which
    if padding.on_host(rows):
        return tuple(jnp.asarray(padding.repeat_last(np.asarray(array), size)) for array in (rows, which))
    missing = size - len(rows)
    return tuple(jnp.concatenate([array, jnp.repeat(array[-1:], missing, axis=0)]) for array in (rows, which))


@functools.partial(jax.jit, static_argnums=0)
def _squared_norms(function, params, state, x, which) -> Array:
    gradient = functools.partial(_gradient, function, networks.cast(params, x.dtype), state)
    norms = (x, which)
    size = min(_SIDE_BY_SIDE, len(x))
    return jax.lax.map(lambda item: jnp.sum(gradient(*item) ** 2), norms, batch_size=None if size == 1 else size)


@functools.partial(jax.jit, static_argnums=0)
def _by_products(function, params, state, first, second) -> Array:
    """Θ̂ between rows, (a, b): the gradient at each row of the second, and the derivative of the first along it."""
    params = networks.cast(params, first[0].dtype)

    def column(item):
        x, c = item
        direction = jax.grad(lambda params: jnp.take(function(params, state, x[None])[0], c))(params)
        return _along(function, params, state, *first, direction)

    return jax.lax.map(column, second).T


def _along(function, params, state, x, which, direction) -> Array:
    """Derivative of the outputs of rows along a direction of the parameters, (a,)."""
    value = jax.jvp(lambda params: function(params, state, x), (params,), (direction,))[1]
    return jnp.take_along_axis(value, which[:, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnums=0)
def _products(function, params, state, first, second, columns) -> Array:
    """Θ̂ v for the columns v of (b, c), (a, c): rows in chunks, so that memory is that of one chunk."""
    params = networks.cast(params, first[0].dtype)
    (x2, which2, v), (x1, which1) = _chunked((*second, columns)), _chunked(first)

    def pulled_back(weights):
        # Rows that fill up the last chunk have weight zero.
        def add(total, chunk):
            x, which, weight = chunk
            value, pullback = jax.vjp(lambda params: function(params, state, x), params)
            seed = jax.nn.one_hot(which, value.shape[1], dtype=value.dtype) * weight[:, None]
            return jax.tree.map(jnp.add, total, pullback(seed)[0]), None

        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (x2, which2, weights))[0]

    def product(weights):
        direction = pulled_back(weights)
        return jax.lax.map(lambda chunk: _along(function, params, state, *chunk, direction), (x1, which1)).reshape(-1)

    values = jax.lax.map(product, jnp.moveaxis(v, -1, 0))
    return values.T[: len(first[0])]


def _chunked(arrays):
    """Arrays (a, ...) as (chunks, rows, ...), filled up with zeros."""
    n = len(arrays[0])
    size = min(_CHUNK, n)
    missing = -n % size
    padded = (jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) for array in arrays)
    return tuple(array.reshape(-1, size, *array.shape[1:]) for array in padded)


def _outputs(net: Network, x: Array) -> Array:
    function, state = net.taken_apart
    evaluate = functools.partial(_evaluate, function, net.params, state)
    known = tracing.is_known(x, net.params, state)
    return padding.rowwise(evaluate, x) if known and len(x) <= _FILLED else evaluate(x)


# Arithmetic of known kernels is done on the host, where it compiles nothing.
@compiling.on_host
def _times(xp, values, factor):
    return values * xp.asarray(factor, values.dtype)


@compiling.on_host
def _sum(xp, one, other):
    return one + other


@compiling.on_host
def _stacked(xp, values):
    return xp.stack(values)


@compiling.on_host
def _less_mean(xp, values):
    return values - xp.mean(values, axis=0)[None]


@compiling.on_host
def _covariance(xp, first, second):
    """The covariance (a, b) of outputs less their mean (N, a, j) and (N, b, j)."""
    return xp.einsum("sic,sjc->ij", first, second) / ((len(first) - 1) * first.shape[2])


@compiling.on_host
def _variances(xp, values):
    return xp.sum(values**2, axis=(0, 2)) / ((len(values) - 1) * values.shape[2])


@compiling.on_host
def _standard_errors(xp, first, second, tangents):
    n = len(first)
    products = xp.einsum("sic,sjc->sij", first, second) * (n / ((n - 1) * first.shape[2]))
    return tuple(xp.std(each, axis=0, ddof=1) / math.sqrt(n) for each in (products, tangents))


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(function, params, state, x) -> Array:
    """Outputs (n, k), in chunks of rows."""
    (chunks,) = _chunked((x,))
    value = jax.lax.map(lambda rows: function(params, state, rows), chunks)
    return value.reshape(-1, value.shape[-1])[: len(x)]
