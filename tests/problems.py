"""Small problems shared by the tests."""

import numpy as np

from ntkinfo import stax


def network(*, activation=None, depth=2, outputs=1, w_std=1.5, b_std=0.3):
    layers = []
    for _ in range(depth - 1):
        layers += [stax.Dense(64, W_std=w_std, b_std=b_std), activation or stax.Erf()]
    return stax.serial(*layers, stax.Dense(outputs, W_std=w_std, b_std=b_std))


def problem(rng, n=12, m=7, d=4, k=1):
    """Inputs (n, d), labels ±1 or one-hot (n, k), test inputs and labels."""
    x, x_test = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    if k == 1:
        return x, np.sign(x[:, :1] + 0.1), x_test, np.sign(x_test[:, :1] + 0.1)
    y, y_test = np.eye(k)[rng.integers(0, k, n)], np.eye(k)[rng.integers(0, k, m)]
    return x, y, x_test, y_test
