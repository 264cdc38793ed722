"""neural-tangents' `stax` under our roof: one description gives the finite network and its infinite-width kernels.

Every public name of `neural_tangents.stax` is here, on every JAX that ntkinfo supports and without TensorFlow. A layer,
and a network, is a triple `(init_fn, apply_fn, kernel_fn)`. Two things differ from the original: the NTK of ABRelu,
Relu, LeakyRelu and Abs is exact on the diagonal (the original's is off by 3e-8 in float64), and the layers
run on current JAX.

Example:
    >>> from ntkinfo import stax
    >>> init_fn, apply_fn, kernel_fn = stax.serial(
    ...     stax.Dense(512, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=1.5, b_std=0.1)
    ... )

Source: arXiv 1912.02803 (neural-tangents).
"""

from ntkinfo import _neural_tangents

_stax = _neural_tangents.load().stax

ABRelu = _stax.ABRelu
Abs = _stax.Abs
Aggregate = _stax.Aggregate
AggregateImplementation = _stax.AggregateImplementation
AttentionMechanism = _stax.AttentionMechanism
AvgPool = _stax.AvgPool
Bool = _stax.Bool
Conv = _stax.Conv
ConvLocal = _stax.ConvLocal
ConvTranspose = _stax.ConvTranspose
Cos = _stax.Cos
Dense = _stax.Dense
Diagonal = _stax.Diagonal
DotGeneral = _stax.DotGeneral
Dropout = _stax.Dropout
Elementwise = _stax.Elementwise
ElementwiseNumerical = _stax.ElementwiseNumerical
Erf = _stax.Erf
Exp = _stax.Exp
ExpNormalized = _stax.ExpNormalized
FanInConcat = _stax.FanInConcat
FanInProd = _stax.FanInProd
FanInSum = _stax.FanInSum
FanOut = _stax.FanOut
Flatten = _stax.Flatten
Gabor = _stax.Gabor
Gaussian = _stax.Gaussian
Gelu = _stax.Gelu
GlobalAvgPool = _stax.GlobalAvgPool
GlobalSelfAttention = _stax.GlobalSelfAttention
GlobalSumPool = _stax.GlobalSumPool
Hermite = _stax.Hermite
Identity = _stax.Identity
ImageResize = _stax.ImageResize
Index = _stax.Index
LayerNorm = _stax.LayerNorm
LeakyRelu = _stax.LeakyRelu
MaskedArray = _stax.MaskedArray
Monomial = _stax.Monomial
Padding = _stax.Padding
Polynomial = _stax.Polynomial
PositionalEmbedding = _stax.PositionalEmbedding
Rbf = _stax.Rbf
RectifiedMonomial = _stax.RectifiedMonomial
Relu = _stax.Relu
Sigmoid_like = _stax.Sigmoid_like
Sign = _stax.Sign
Sin = _stax.Sin
Slice = _stax.Slice
SumPool = _stax.SumPool
layer = _stax.layer
parallel = _stax.parallel
repeat = _stax.repeat
requires = _stax.requires
serial = _stax.serial
supports_masking = _stax.supports_masking
unmask_fn = _stax.unmask_fn

__all__ = [
    "ABRelu",
    "Abs",
    "Aggregate",
    "AggregateImplementation",
    "AttentionMechanism",
    "AvgPool",
    "Bool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Cos",
    "Dense",
    "Diagonal",
    "DotGeneral",
    "Dropout",
    "Elementwise",
    "ElementwiseNumerical",
    "Erf",
    "Exp",
    "ExpNormalized",
    "FanInConcat",
    "FanInProd",
    "FanInSum",
    "FanOut",
    "Flatten",
    "Gabor",
    "Gaussian",
    "Gelu",
    "GlobalAvgPool",
    "GlobalSelfAttention",
    "GlobalSumPool",
    "Hermite",
    "Identity",
    "ImageResize",
    "Index",
    "LayerNorm",
    "LeakyRelu",
    "MaskedArray",
    "Monomial",
    "Padding",
    "Polynomial",
    "PositionalEmbedding",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Sigmoid_like",
    "Sign",
    "Sin",
    "Slice",
    "SumPool",
    "layer",
    "parallel",
    "repeat",
    "requires",
    "serial",
    "supports_masking",
    "unmask_fn",
]
