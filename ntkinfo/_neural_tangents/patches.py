"""What has to be replaced inside neural-tangents 0.6.5 for it to compute, and to compute exactly, on current JAX.

Everything here becomes an attribute of neural-tangents' own modules; `load` calls `apply_patches` once.
"""

import contextlib
import functools
import importlib
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def apply_patches(nt: types.ModuleType) -> None:
    """Replace what needs replacing in the imported module `neural_tangents`."""
    source = f"{nt.__name__}._src"
    _patch_empirical(importlib.import_module(f"{source}.empirical"))
    _patch_predict(importlib.import_module(f"{source}.predict"), nt.predict)
    _patch_shapes(importlib.import_module(f"{source}.stax.requirements"))
    _patch_attention(importlib.import_module(f"{source}.stax.linear"))
    _patch_homogeneous(importlib.import_module(f"{source}.stax.elementwise"), nt.stax)


class ModuleProxy(types.ModuleType):
    """A module with some names replaced; every other name is asked of the original when used."""

    def __init__(self, original: types.ModuleType, **names: Any):
        super().__init__(original.__name__)
        self.__dict__.update(names, _original=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _patch_empirical(module: types.ModuleType) -> None:
    """Empirical kernels: linearize through public JAX, and transpose one equation at a time."""
    from jax.extend.core import Literal
    from jax.interpreters import ad

    def primals_out_and_pullback(fn, mode, _j_rules, _s_rules, _fwd, *primals_in):
        in_tree = jax.tree_util.tree_structure(primals_in)
        # Calls must be inlined: the rules know primitives, not jitted functions.
        with jax.disable_jit():
            primals_out, f_jvp = jax.linearize(fn, *primals_in)
            closed = jax.make_jaxpr(f_jvp)(*jax.tree_util.tree_map(jnp.zeros_like, primals_in))
        jaxpr, consts = _fold_known(closed.jaxpr, closed.consts)

        def pullback(*cts_in):
            cts_out = module._backward_pass(
                jaxpr,
                mode=mode,
                consts=consts,
                primals_in=[ad.UndefinedPrimal(v.aval) for v in jaxpr.invars],
                cotangents_in=tuple(jax.tree_util.tree_leaves(cts_in)),
                _j_rules=_j_rules,
                _s_rules=_s_rules,
                _fwd=_fwd,
            )
            return jax.tree_util.tree_unflatten(in_tree, cts_out)

        return primals_out, pullback

    def eqn_vjp(eqn, cts_in, *invals):
        if eqn is None:
            return (cts_in,)
        try:
            transpose = ad.get_primitive_transpose(eqn.primitive)
        except NotImplementedError:
            # Some primitives, such as slices, have another kind of rule in newer JAX: the public way knows all kinds.
            return _transposed(eqn, cts_in, invals, ad.UndefinedPrimal)
        return transpose(cts_in, *invals, **eqn.params)

    def write_cotangent(prim, ct_env, v, ct):
        if ct is None or type(v) is Literal or type(ct) is ad.Zero:
            return
        ct_env[v] = ad.add_tangents(ct_env[v], ct) if v in ct_env else ct

    def read_primal(env, v):
        return v.val if type(v) is Literal else env.get(v, ad.UndefinedPrimal(v.aval))

    def get_flops(f, optimize, *args, **kwargs):
        lowered = jax.jit(f).lower(*args, **kwargs)
        analysis = (lowered.compile() if optimize else lowered).cost_analysis()
        return (analysis if isinstance(analysis, dict) else analysis[0])["flops"]

    no_names = types.SimpleNamespace(transform_name_stack=lambda name: contextlib.nullcontext())
    module.ad = ModuleProxy(ad, source_info_util=no_names)
    # Of shapes and dtypes JAX is to be asked no longer by functions of arrays.
    module.jnp = ModuleProxy(jnp, size=lambda a: math.prod(np.shape(a)), shape=np.shape, dtype=jax.dtypes.result_type)
    module._get_primals_out_and_pullback = primals_out_and_pullback
    module._eqn_vjp_fn = eqn_vjp
    module._write_cotangent = write_cotangent
    module._read_primal = read_primal
    module._get_flops = get_flops


def _transposed(eqn, cotangent, invals, unknown) -> tuple:
    """Cotangents of the operands that an equation is linear in, None for the others."""
    linear = [i for i, value in enumerate(invals) if type(value) is unknown]

    def function(*operands):
        filled = list(invals)
        for i, operand in zip(linear, operands, strict=True):
            filled[i] = operand
        return eqn.primitive.bind(*filled, **eqn.params)

    shapes = [jax.ShapeDtypeStruct(invals[i].aval.shape, invals[i].aval.dtype) for i in linear]
    cotangents = dict(zip(linear, jax.linear_transpose(function, *shapes)(cotangent), strict=True))
    return tuple(cotangents.get(i) for i in range(len(invals)))


def _fold_known(jaxpr, consts):
    """Evaluate the equations that depend on constants only: the backward pass takes every equation for linear."""
    from jax.extend.core import Literal

    unknown = set(jaxpr.invars)
    known, rest = [], []
    for eqn in jaxpr.eqns:
        if any(type(v) is not Literal and v in unknown for v in eqn.invars):
            unknown.update(eqn.outvars)
            rest.append(eqn)
        else:
            known.append(eqn)
    if not known:
        return jaxpr, list(consts)
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    for eqn in known:
        values = [v.val if type(v) is Literal else env[v] for v in eqn.invars]
        out = eqn.primitive.bind(*values, **eqn.params)
        env.update(
            zip(
                eqn.outvars,
                out if eqn.primitive.multiple_results else [out],
                strict=True,
            )
        )
    return jaxpr.replace(constvars=list(env), eqns=rest), list(env.values())


def _patch_predict(module: types.ModuleType, public: types.ModuleType) -> None:
    """Predictors: keyword of today's SciPy, caches that hold no tracer."""

    def eigvalsh(a, eigvals):
        import scipy.linalg

        return scipy.linalg.eigvalsh(a, subset_by_index=eigvals)

    module.sp = types.SimpleNamespace(linalg=types.SimpleNamespace(eigvalsh=eigvalsh))
    module.jax = _compile_time_jax()
    module.lru_cache = _compile_time_cache
    for name in (
        "gradient_descent_mse",
        "gradient_descent_mse_ensemble",
        "gp_inference",
    ):
        fresh = _fresh_under_trace(getattr(module, name))
        setattr(module, name, fresh)
        setattr(public, name, fresh)


# Layers whose shapes are remembered, each for every shape of its inputs.
_LAYERS = 1024


def _patch_shapes(module: types.ModuleType) -> None:
    """Shapes of outputs: every layer is traced once for each shape, not twice for every program of a kernel."""
    propagate = module._propagate_shape
    remembered = functools.lru_cache(_LAYERS)(propagate)

    def propagate_shape(init_fn, apply_fn, shaped, **kwargs):
        known = not kwargs and isinstance(shaped, module.ShapedArray)
        return (remembered if known else propagate)(init_fn, apply_fn, shaped, **kwargs)

    module._propagate_shape = propagate_shape
    # A function made again would be another one.
    module.unmask_fn = functools.lru_cache(_LAYERS)(module.unmask_fn)


def _patch_attention(module: types.ModuleType) -> None:
    """Attention's positional embedding: the same cache, the same remedy."""
    module.jax = _compile_time_jax()
    module.functools = ModuleProxy(functools, lru_cache=_compile_time_cache)


# Two inputs count as parallel where the squared sine of their angle is below this many units of rounding.
_PARALLEL = 32


def _patch_homogeneous(module: types.ModuleType, public: types.ModuleType) -> None:
    """Activations of homogeneous functions: exact kernels of parallel inputs, a point with itself among them.

    The angle of parallel inputs is the root of a difference of rounded numbers, about 1e-8 in float64 instead of 0. The
    NTK of ABRelu (so Relu, LeakyRelu, Abs) and the NNGP kernel of Sign are linear in it, and the formula for rectified
    monomials divides by its sine. With ρ the covariance of two parallel inputs, E φ(u)φ(v) and E φ'(u)φ'(v) are

        a min(x, 0) + b max(x, 0)    (a² + b²) ρ/2,  (a² + b²)/2        ρ > 0        a b ρ,  a b        ρ < 0
        max(x, 0)ᵈ                   (2d - 1)!! ρᵈ/2,  d² (2d - 3)!! ρᵈ⁻¹/2           0,  0
        sign(x)                      1,  0                                           -1,  0
    """
    from neural_tangents._src.stax.requirements import layer, supports_masking

    def ab_relu(a, b, do_stabilize=False):
        def parallel(rho):
            moment = jnp.where(rho > 0, (a**2 + b**2) / 2, a * b)
            return moment * rho, moment

        return parallel

    def rectified_monomial(degree):
        def odd_factorial(n):
            return float(math.prod(range(n, 0, -2)))

        def parallel(rho):
            positive = jnp.maximum(rho, 0)
            value = odd_factorial(2 * degree - 1) / 2 * positive**degree
            slope = degree**2 * odd_factorial(2 * degree - 3) / 2 * positive ** max(degree - 1, 0)
            return (jnp.where(rho > 0, 0.5, 0.0), 0.0) if degree == 0 else (value, jnp.where(rho > 0, slope, 0.0))

        return parallel

    def sign():
        return lambda rho: (jnp.sign(rho), 0.0)

    for name, parallel in (("ABRelu", ab_relu), ("RectifiedMonomial", rectified_monomial), ("Sign", sign)):
        constructor = _exact_where_parallel(module, getattr(module, name).__wrapped__.__wrapped__, parallel)
        constructor = layer(supports_masking(remask_kernel=False)(constructor))
        setattr(module, name, constructor)
        setattr(public, name, constructor)


def _exact_where_parallel(module: types.ModuleType, inexact, closed_form):
    """A constructor of an activation whose kernels are `closed_form` where two inputs are parallel."""

    @functools.wraps(inexact)
    def constructor(*args, **kwargs):
        init_fn, apply_fn, inner = inexact(*args, **kwargs)
        parallel_kernels = closed_form(*args, **kwargs)

        def exact(rho, product, inexact):
            """The value and slope where ρ² is the product of the variances, and where that is."""
            tolerance = _PARALLEL * float(jnp.finfo(rho.dtype).eps)
            parallel = (product > 0) & (jnp.abs(product - rho**2) <= tolerance * product)
            value, moment = parallel_kernels(jnp.where(parallel, rho, 1))
            return parallel, jnp.where(parallel, value, inexact), moment

        @functools.wraps(inner)
        def kernel_fn(k, **kwargs):
            product1, product, product2 = module.get_diagonal_outer_prods(
                k.cov1, k.cov2, k.diagonal_batch, k.diagonal_spatial, lambda x, y: x * y
            )
            parallel = exact(k.nngp, product, k.nngp)[0]
            # At a right angle nothing is singular, neither the value nor its derivative.
            out = inner(k.replace(nngp=jnp.where(parallel, 0, k.nngp)), **kwargs)
            _, nngp, moment = exact(k.nngp, product, out.nngp)
            ntk = out.ntk
            if k.ntk is not None and k.ntk.ndim >= 2:
                ntk = jnp.where(parallel, moment * k.ntk, out.ntk)
            cov1 = exact(k.cov1, product1, out.cov1)[1]
            cov2 = None if k.cov2 is None else exact(k.cov2, product2, out.cov2)[1]
            return out.replace(nngp=nngp, ntk=ntk, cov1=cov1, cov2=cov2)

        return init_fn, apply_fn, kernel_fn

    return constructor


def _compile_time_jax() -> types.ModuleType:
    return ModuleProxy(jax, core=ModuleProxy(jax.core, eval_context=jax.ensure_compile_time_eval))


def _tracing() -> bool:
    """Whether operations on constants are being staged into a program now (jit, scan; not grad or vmap alone)."""
    return isinstance(jnp.add(0.0, 0.0), jax.core.Tracer)


def _compile_time_cache(maxsize):
    """`functools.lru_cache` that never keeps what was computed while tracing: it may hold tracers of that trace."""

    def decorate(fn):
        cached = functools.lru_cache(maxsize)(fn)

        @functools.wraps(fn)
        def call(*args):
            if not _tracing():
                return cached(*args)
            with jax.ensure_compile_time_eval():
                return fn(*args)

        return call

    return decorate


def _fresh_under_trace(make):
    """Give every traced call of a predictor a predictor of its own: the caches inside keep tracers otherwise."""

    @functools.wraps(make)
    def maker(*args, **kwargs):
        predictor = make(*args, **kwargs)

        @functools.wraps(predictor)
        def predict_fn(*a, **k):
            return (make(*args, **kwargs) if _tracing() else predictor)(*a, **k)

        return predict_fn

    return maker
