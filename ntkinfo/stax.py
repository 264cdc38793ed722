"""neural-tangents' `stax` under our roof: one description gives the finite network and its infinite-width kernels.

Every public name of `neural_tangents.stax` is here, on every JAX that ntkinfo supports and without TensorFlow. A layer,
and a network, is a triple `(init_fn, apply_fn, kernel_fn)`. Three things differ from the original: the NTK of ABRelu,
Relu, LeakyRelu and Abs is exact on the diagonal (the original's is off by 3e-8 in float64), the layers run on current
JAX, and kernel functions know the correlated-parameter kernel (`ntkinfo.kernels.correlated`), which
`ntkinfo.kernels.hessian` needs.

Example:
    >>> from ntkinfo import stax
    >>> init_fn, apply_fn, kernel_fn = stax.serial(
    ...     stax.Dense(512, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=1.5, b_std=0.1)
    ... )

Source: arXiv 1912.02803 (neural-tangents).
"""

from ntkinfo._neural_tangents import correlated, load

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

_stax = load.load().stax
ABRelu = correlated.nonsmooth(_stax.ABRelu)
Abs = correlated.nonsmooth(_stax.Abs)
Aggregate = correlated.unsupported(_stax.Aggregate)
AggregateImplementation = _stax.AggregateImplementation
AttentionMechanism = _stax.AttentionMechanism
AvgPool = correlated.without_parameters(_stax.AvgPool)
Bool = _stax.Bool
Conv = correlated.parametrised(_stax.Conv)
ConvLocal = correlated.parametrised(_stax.ConvLocal)
ConvTranspose = correlated.parametrised(_stax.ConvTranspose)
Cos = correlated.without_parameters(_stax.Cos)
Dense = correlated.parametrised(_stax.Dense)
Diagonal = _stax.Diagonal
DotGeneral = correlated.without_parameters(_stax.DotGeneral)
Dropout = correlated.conditional(_stax.Dropout, "mode", "test", correlated.unsupported)
Elementwise = correlated.nonsmooth(_stax.Elementwise, "whether it is smooth is not known")
ElementwiseNumerical = correlated.nonsmooth(
    _stax.ElementwiseNumerical, "its quadrature has no derivatives where two inputs agree"
)
Erf = correlated.without_parameters(_stax.Erf)
Exp = correlated.without_parameters(_stax.Exp)
ExpNormalized = correlated.conditional(_stax.ExpNormalized, "do_clip", False, correlated.nonsmooth)
FanInConcat = correlated.without_parameters(_stax.FanInConcat)
FanInProd = correlated.without_parameters(_stax.FanInProd)
FanInSum = correlated.without_parameters(_stax.FanInSum)
FanOut = correlated.without_parameters(_stax.FanOut)
Flatten = correlated.without_parameters(_stax.Flatten)
Gabor = correlated.without_parameters(_stax.Gabor)
Gaussian = correlated.without_parameters(_stax.Gaussian)
Gelu = correlated.without_parameters(_stax.Gelu)
GlobalAvgPool = correlated.without_parameters(_stax.GlobalAvgPool)
GlobalSelfAttention = correlated.unsupported(_stax.GlobalSelfAttention)
GlobalSumPool = correlated.without_parameters(_stax.GlobalSumPool)
Hermite = correlated.without_parameters(_stax.Hermite)
Identity = correlated.without_parameters(_stax.Identity)
ImageResize = correlated.without_parameters(_stax.ImageResize)
Index = correlated.without_parameters(_stax.Index)
LayerNorm = correlated.without_parameters(_stax.LayerNorm)
LeakyRelu = correlated.nonsmooth(_stax.LeakyRelu)
MaskedArray = _stax.MaskedArray
Monomial = correlated.without_parameters(_stax.Monomial)
Padding = _stax.Padding
Polynomial = correlated.without_parameters(_stax.Polynomial)
PositionalEmbedding = _stax.PositionalEmbedding
Rbf = correlated.without_parameters(_stax.Rbf)
RectifiedMonomial = correlated.nonsmooth(_stax.RectifiedMonomial)
Relu = correlated.nonsmooth(_stax.Relu)
Sigmoid_like = correlated.without_parameters(_stax.Sigmoid_like)
Sign = correlated.nonsmooth(_stax.Sign)
Sin = correlated.without_parameters(_stax.Sin)
Slice = _stax.Slice
SumPool = correlated.without_parameters(_stax.SumPool)
layer = _stax.layer
parallel = correlated.combinator(_stax.parallel)
repeat = correlated.combinator(_stax.repeat)
requires = _stax.requires
serial = correlated.combinator(_stax.serial)
supports_masking = _stax.supports_masking
unmask_fn = _stax.unmask_fn
