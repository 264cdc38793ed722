"""Infinite width. Kernels of a network, in blocks: the covariance of its outputs and its tangent kernel.

`kernels` takes any network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`, and returns both kernels,
evaluated block by block so that memory stays bounded; on several devices the blocks are dealt out in turn. `hessian`
does the same for the Hessian kernel. `empirical` is the tangent kernel of a network of your own, as a kernel function,
`features` the kernel of given features.
"""

from ntkinfo._common.check import inputs
from ntkinfo.kernels._empirical import EmpiricalKernel, empirical
from ntkinfo.kernels._empirical import check_rank as check_rank
from ntkinfo.kernels._empirical import inputs_like as inputs_like
from ntkinfo.kernels._empirical import mean_function as mean_function
from ntkinfo.kernels._empirical import offset as offset
from ntkinfo.kernels._empirical import refuse_full as refuse_full
from ntkinfo.kernels._empirical import saw_data as saw_data
from ntkinfo.kernels._empirical import scaled as scaled
from ntkinfo.kernels._empirical import trained_on as trained_on
from ntkinfo.kernels._features import FeatureKernel, features
from ntkinfo.kernels._features import as_features as as_features
from ntkinfo.kernels._given_again import check_same as check_same
from ntkinfo.kernels._given_again import check_stored as check_stored
from ntkinfo.kernels._given_again import chosen_rows as chosen_rows
from ntkinfo.kernels._given_again import factor as factor
from ntkinfo.kernels._given_again import few_kernels as few_kernels
from ntkinfo.kernels._given_again import functions_again as functions_again
from ntkinfo.kernels._kernels import Kernels, block_size, correlated, diagonal, evaluate, has_hessian, hessian, kernels
from ntkinfo.kernels._kernels import are_covariances as are_covariances
from ntkinfo.kernels._sharded import EvaluatedKernels as EvaluatedKernels
from ntkinfo.kernels._sharded import OneKernel as OneKernel
from ntkinfo.kernels._sharded import StoredKernels as StoredKernels
from ntkinfo.kernels._sharded import Totals as Totals
from ntkinfo.kernels._sharded import check_mesh as check_mesh
from ntkinfo.kernels._sharded import evaluated as evaluated
from ntkinfo.kernels._sharded import rows_of as rows_of
from ntkinfo.kernels._sharded import stored as stored
from ntkinfo.kernels._sharded import stored_of_rows as stored_of_rows
from ntkinfo.networks import kernel_function

__all__ = [
    "EmpiricalKernel",
    "FeatureKernel",
    "Kernels",
    "block_size",
    "correlated",
    "diagonal",
    "empirical",
    "evaluate",
    "features",
    "has_hessian",
    "hessian",
    "inputs",
    "kernel_function",
    "kernels",
]
