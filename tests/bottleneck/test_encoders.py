"""Encoders computed when they are asked for, against the array they stand for."""

import pickle

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import bottleneck
from ntkinfo._common import memory
from ntkinfo.bottleneck import _ib
from ntkinfo.bottleneck._encoders import Encoders

BETA = np.array([3.0, 12.0, 40.0])
# Rows 1 and 4 are alike: merged, and spread out again.
TABLE = np.random.default_rng(2).dirichlet(np.ones(3), 7)[[0, 1, 2, 3, 1, 4, 5, 6]] / 8


@pytest.fixture(scope="module")
def array():
    return bottleneck.ib(TABLE, BETA)


@pytest.fixture
def lazy(monkeypatch):
    monkeypatch.setattr(_ib, "_MOST_ENTRIES", 1)
    return bottleneck.ib(TABLE, BETA)


def test_each_is_that_of_the_array(array, lazy):
    assert isinstance(lazy.encoder, Encoders) and isinstance(array.encoder, jax.Array)
    assert lazy.encoder.shape == array.encoder.shape and lazy.encoder.dtype == array.encoder.dtype
    assert lazy.encoder.ndim == 3 and len(lazy.encoder) == 3
    np.testing.assert_array_equal(lazy.encoder, array.encoder)
    for i in (0, 2, -1, np.int64(1)):
        np.testing.assert_array_equal(lazy.encoder[i], array.encoder[i])
    np.testing.assert_array_equal(lazy.encoder[1, 4], array.encoder[1, 4])
    np.testing.assert_array_equal(lazy.encoder[1:][0], array.encoder[1])
    np.testing.assert_array_equal(lazy.encoder[:, 2], array.encoder[:, 2])
    np.testing.assert_array_equal(np.stack(list(lazy.encoder)), array.encoder)
    for name in ("i_xz", "i_zy", "lagrangian", "prior", "decoder"):
        np.testing.assert_array_equal(getattr(lazy, name), getattr(array, name))


def test_tables_and_pickles_of_them(array, lazy):
    assert lazy.assignments().equals(array.assignments())
    assert lazy.encoder_table(1).equals(array.encoder_table(1))
    again = pickle.loads(pickle.dumps(lazy))
    np.testing.assert_array_equal(again.encoder, array.encoder)
    with pytest.raises(IndexError):
        lazy.encoder[3]


def test_files_hold_what_encoders_are_computed_from(array, lazy, tmp_path):
    for curve in (lazy, lazy._replace(encoder=lazy.encoder[1:]), lazy._replace(encoder=lazy.encoder.astype("float32"))):
        ni.save(curve, tmp_path / "curve.npz")
        again = ni.load(tmp_path / "curve.npz")
        assert type(again.encoder) is Encoders and again.encoder.dtype == curve.encoder.dtype
        np.testing.assert_array_equal(again.encoder, curve.encoder)
        np.testing.assert_array_equal(again.i_zy, array.i_zy)
    with pytest.raises(TypeError, match="`net` must be None"):
        ni.load(tmp_path / "curve.npz", net=lambda x: x)
    with pytest.raises(TypeError, match="`result` must be a result"):
        ni.save(lazy.encoder, tmp_path / "encoder.npz")


def test_precision_of_the_table(lazy):
    narrow = bottleneck.ib(TABLE.astype(np.float32), BETA)
    assert narrow.encoder.dtype == np.float32 and narrow.encoder[0].dtype == np.float32
    np.testing.assert_allclose(np.asarray(narrow.encoder).sum(axis=2), 1, rtol=1e-6)


def test_the_dual_with_features(monkeypatch):
    features, multipliers = np.random.default_rng(3).normal(size=(2, 5, 2))
    p = np.exp(-features @ multipliers.T)
    p /= 5 * p.sum(axis=1, keepdims=True)
    options = {"features": features, "multipliers": multipliers}
    whole = bottleneck.dual_ib(p, BETA, **options)
    monkeypatch.setattr(_ib, "_MOST_ENTRIES", 1)
    np.testing.assert_allclose(bottleneck.dual_ib(p, BETA, **options).features, whole.features, rtol=1e-12)


def test_all_at_once_are_refused_where_they_do_not_fit(lazy, monkeypatch):
    monkeypatch.setattr(memory, "shortage", lambda n_bytes: 100)
    with pytest.raises(ValueError, match=r"`encoder` of 3 values of `beta` needs about .* `curve\.encoder\[i\]`"):
        np.asarray(lazy.encoder)
    assert lazy.encoder[0].shape == lazy.encoder.shape[1:]
