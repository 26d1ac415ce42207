"""Windows whose true probabilities are known."""

import numpy as np


def known_posterior(num_windows, sequence_length=8, num_features=3, seed=0):
    """Returns windows, labels drawn from a known P(y | x), and that posterior.

    The posterior is a softmax of the last bar's first two features.

    Returns:
        x (windows, time, features) float32, y (windows,) int32, posterior (windows, 3).
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_windows, sequence_length, num_features)).astype(np.float32)
    signal, size = x[:, -1, 0].astype(float), x[:, -1, 1].astype(float)
    logits = np.stack([-0.8 * signal, 0.7 - 0.5 * size, 0.8 * signal + 0.2], axis=1)
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random(num_windows)[:, None] > posterior.cumsum(axis=1)).sum(axis=1)
    return x, np.minimum(y, 2).astype(np.int32), posterior
