"""Networks with every layer recorded over training, and their activations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, compiling, pytree, tables
from ntkinfo._numerics import mlp
from ntkinfo._numerics.mlp import ACTIVATIONS


@pytree.dataclass("sizes", "activations", "loss", "steps_per_epoch")
class LayerRun:
    """N networks of L layers at T epochs of their training. A pytree; made by `train_layers`.

    Attributes:
      epochs: the recorded epochs, (T,); 0 is before training.
      weights: of each layer, (N, T, d_in, d_out).
      biases: of each layer, (N, T, d_out).
      train_loss: mean loss over the training rows, (N, T).
      test_loss: over the test rows, (N, T); None without any.
      train_error: mean probability that the label is another than the likeliest output, (N, T).
      test_error: likewise, (N, T); None without test rows.
      gradient_mean: for each layer the norm ‖∇W‖ of the gradient averaged over the minibatches of the coming epoch,
        at the weights of now, (N, T, L).
      gradient_std: the norm of its standard deviation over them, (N, T, L); 0 for full-batch training.
      weight_norm: ‖W‖, (N, T, L). All norms are Frobenius's.
      train_rows: the rows each network is trained on, (N, n_train).
      labels: the labels drawn for each network, (N, n); None where they were not drawn.
      sizes: units of every layer, the inputs first.
      activations: of the hidden layers: names, or functions.
      loss: "cross_entropy" or "mse".
      steps_per_epoch: minibatches of an epoch.
    """

    epochs: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    train_loss: Array
    test_loss: Array | None
    train_error: Array
    test_error: Array | None
    gradient_mean: Array
    gradient_std: Array
    weight_norm: Array
    train_rows: Array
    labels: Array | None
    sizes: tuple[int, ...]
    activations: tuple
    loss: str
    steps_per_epoch: int

    @property
    def _table(self) -> tables.Table:
        # Cross-entropies are information, squared errors are not.
        losses, plain = "train_loss test_loss", "train_error test_error gradient_mean gradient_std weight_norm"
        nats, plain = (losses, plain) if self.loss == "cross_entropy" else ("", f"{losses} {plain}")
        per_epoch = dict.fromkeys(("train_loss", "test_loss", "train_error", "test_error"), ("network", "epochs"))
        return tables.Table(("network", "epochs", "layer"), nats, plain, per_epoch, totals="loss steps_per_epoch")

    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def activations(
    run: LayerRun, x: Float[ArrayLike, "n d"], *, index: int | None = None
) -> list[Float[Array, "... n _"]]:
    """Every layer of the recorded networks on given inputs.

    Args:
      run: a `LayerRun`.
      x: inputs, (n, d).
      index: of one record; None for all of them.

    Returns:
      For each layer (N, T, n, units), or (N, n, units) with `index`; the last holds the softmax of the outputs where
      the loss was cross-entropy, else the outputs.

    Raises:
      TypeError, ValueError: inputs that are not floats of the right size; an index out of range.
    """
    check.instance("run", run, LayerRun, maker="`finite.train_layers`")
    x = check.array("x", x, 2)
    check.small_enough("x", x)
    if x.shape[1] != run.sizes[0]:
        raise ValueError(f"`x` must have {run.sizes[0]} columns, as the networks' inputs; got shape {x.shape}.")
    params = tuple(mlp.Layer(w, b) for w, b in zip(run.weights, run.biases, strict=True))
    if index is not None:
        last = len(run.epochs) - 1
        index = check.integer("index", index, least=-last - 1, most=last)
        params = jax.tree.map(lambda leaf: leaf[:, index], params)
    functions = tuple(ACTIVATIONS[name] if isinstance(name, str) else name for name in run.activations)
    return _activate(functions, run.loss == "cross_entropy", params, jnp.asarray(x, params[0].weight.dtype))


@compiling.jit(static_argnums=(0, 1))
def _activate(functions, softmax, params, x):
    def activate(params):
        values = [layer.T for layer in mlp.layers(functions, params, x.T)]
        return [*values[:-1], jax.nn.softmax(values[-1], axis=1)] if softmax else values

    for _ in range(params[0].weight.ndim - 2):
        activate = jax.vmap(activate)
    return activate(params)
