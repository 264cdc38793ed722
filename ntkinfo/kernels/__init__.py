"""Infinite width. Kernels of a network, in blocks: the covariance of its outputs and its tangent kernel.

`kernels` takes any network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`, and returns both kernels,
evaluated block by block so that memory stays bounded; on several devices the blocks are dealt out in turn. `hessian`
does the same for the Hessian kernel. `empirical` is the tangent kernel of a network of your own, as a kernel function.
"""

from ntkinfo._common.check import inputs
from ntkinfo.kernels._empirical import EmpiricalKernel, empirical
from ntkinfo.kernels._empirical import check_rank as check_rank
from ntkinfo.kernels._empirical import inputs_like as inputs_like
from ntkinfo.kernels._empirical import mean_function as mean_function
from ntkinfo.kernels._empirical import offset as offset
from ntkinfo.kernels._empirical import saw_data as saw_data
from ntkinfo.kernels._empirical import scaled as scaled
from ntkinfo.kernels._kernels import Kernels, block_size, correlated, diagonal, evaluate, has_hessian, hessian, kernels
from ntkinfo.kernels._kernels import are_covariances as are_covariances
from ntkinfo.networks import kernel_function

__all__ = [
    "EmpiricalKernel",
    "Kernels",
    "block_size",
    "correlated",
    "diagonal",
    "empirical",
    "evaluate",
    "has_hessian",
    "hessian",
    "inputs",
    "kernel_function",
    "kernels",
]
