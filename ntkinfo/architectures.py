"""Networks by name, for the command line and for sweeps: depth, activation and scales instead of layers."""

from jax import Array

from ntkinfo._common import check

__all__ = ["ACTIVATIONS", "ARCHITECTURES", "network"]

ARCHITECTURES = ("dense", "conv", "residual")
# Layers are made one by one, and a kernel compiles them one by one.
_DEEPEST = 1000
ACTIVATIONS = ("erf", "relu", "gelu", "leaky_relu", "sin", "abs", "linear")


def network(
    architecture: str = "dense",
    *,
    activation: str = "erf",
    depth: int = 2,
    w_std: float | Array = 1.5,
    b_std: float | Array = 0.1,
    outputs: int = 1,
    width: int = 512,
):
    """A network of `ntkinfo.stax`: `depth` hidden layers and a dense readout.

    Args:
      architecture: "dense" (inputs (n, d)), "conv" (3 x 3 convolutions, then flattened; inputs (n, height, width,
        channels)) or "residual" (dense, each hidden layer added to its input).
      activation: one of `ACTIVATIONS`; "linear" is none.
      depth: number of hidden layers, at least 1.
      w_std: standard deviation of the weights, in the NTK parameterization; kernels can be differentiated by it.
      b_std: standard deviation of the biases.
      outputs: number of outputs.
      width: units or channels of a hidden layer, for finite networks; kernels do not depend on it.

    Returns:
      The stax triple (init, apply, kernel).

    Raises:
      TypeError: a depth, width or number of outputs that is not an integer.
      ValueError: an unknown name, scales that are not positive, a depth below 1.
    """
    check.option("architecture", architecture, ARCHITECTURES)
    check.option("activation", activation, ACTIVATIONS)
    depth, outputs = check.size("depth", depth, most=_DEEPEST), check.size("outputs", outputs)
    width = check.size("width", width)
    check.positive("w_std", w_std, scalar=True)
    check.positive("b_std", b_std, zero=True, scalar=True)
    # Under these names: the layers call them by their own.
    check.number("w_std", w_std, high=check.LARGEST_SCALE)
    check.number("b_std", b_std, high=check.LARGEST_SCALE)
    from ntkinfo import stax

    nonlinear = {
        "erf": stax.Erf,
        "relu": stax.Relu,
        "gelu": stax.Gelu,
        "leaky_relu": lambda: stax.LeakyRelu(0.1),
        "sin": stax.Sin,
        "abs": stax.Abs,
        "linear": stax.Identity,
    }[activation]

    def dense(units):
        return stax.Dense(units, W_std=w_std, b_std=b_std)

    if architecture == "conv":
        hidden = [(stax.Conv(width, (3, 3), W_std=w_std, b_std=b_std, padding="SAME"), nonlinear())] * depth
        return stax.serial(*[layer for pair in hidden for layer in pair], stax.Flatten(), dense(outputs))
    if architecture == "dense":
        return stax.serial(*[layer for _ in range(depth) for layer in (dense(width), nonlinear())], dense(outputs))
    block = [
        stax.FanOut(2),
        stax.parallel(stax.serial(nonlinear(), dense(width)), stax.Identity()),
        stax.FanInSum(),
    ]
    return stax.serial(dense(width), *(block * depth), nonlinear(), dense(outputs))
