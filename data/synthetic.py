"""Markets with a known signal, and with none, for tests and demonstrations."""

import numpy as np
import pandas as pd

from data.checks import check_bars
from data.errors import InputError
from data.i18n import _

PREFIX = "synthetic:"
STEPS_PER_BAR = 4
DRIFT_STRENGTH, MEAN_DURATION = 0.5, 80.0  # of `persistent_drift`
PARAMETERS = {"bars": ("num_bars", 5000), "symbols": ("num_symbols", 8), "seed": ("seed", 0)}
LEAST = {"bars": 2, "symbols": 1, "seed": 0}
MOST = {"bars": 1_000_000, "symbols": 1000, "seed": 2**31 - 1}


def read_synthetic(text: str) -> pd.DataFrame:
    """Returns the market that a text names, such as `synthetic:walk?bars=5000&symbols=8&seed=1`.

    Args:
        text: `synthetic:walk` (nothing to be learnt) or `synthetic:persistent_drift` (a signal);
            after `?` any of bars (each symbol's), symbols and seed.

    Raises:
        InputError: a line for each unknown name, unknown parameter and wrong value.
    """
    name, values = parsed(text)
    return MARKETS[name](**values)


def parsed(text: str) -> tuple[str, dict[str, int]]:
    """Returns the name of a made-up market and the arguments of its function, both checked."""
    name, query = text.removeprefix(PREFIX).partition("?")[::2]
    faults = []
    if name not in MARKETS:
        faults.append(
            _(
                "a synthetic market must be one of {markets}; got {name!r}",
                markets=", ".join(MARKETS),
                name=name,
            )
        )
    values = dict(PARAMETERS.values())
    for item in filter(None, query.split("&")):
        key, value = item.partition("=")[::2]
        if key not in PARAMETERS:
            known = ", ".join(PARAMETERS)
            faults.append(
                _(
                    "{text}: parameters must be of {known}; got {key!r}",
                    text=text,
                    known=known,
                    key=key,
                )
            )
        elif not (value.isdecimal() and LEAST[key] <= int(value) <= MOST[key]):
            faults.append(
                _(
                    "{text}: {key} must be a whole number from {least} to {most}, got {value!r}",
                    text=text,
                    key=key,
                    least=LEAST[key],
                    most=MOST[key],
                    value=value,
                )
            )
        else:
            values[PARAMETERS[key][0]] = int(value)
    if faults:
        raise InputError(faults)
    return name, values


def random_walk(
    num_symbols: int = 4, num_bars: int = 4000, seed: int = 0, interval: str = "15min"
) -> pd.DataFrame:
    """Returns bars of a random walk with stochastic volatility: no return can be forecast.

    The volatility drifts so slowly that the labels' past volatility says nearly all that is to be
    known of it; a faster one would make the size of a move, and so HOLD, forecastable.
    """
    return _market(num_symbols, num_bars, seed, interval, drift_strength=0.0)


def persistent_drift(
    num_symbols: int = 4,
    num_bars: int = 4000,
    seed: int = 0,
    interval: str = "15min",
    strength: float = DRIFT_STRENGTH,
    mean_duration: float = MEAN_DURATION,
    duration_spread: float | None = None,
) -> pd.DataFrame:
    """Returns bars with a hidden drift of either sign that lasts long enough to be learnt.

    Args:
        num_symbols: symbols, independent of one another.
        num_bars: bars of each.
        seed: of the generator.
        interval: a pandas offset such as "15min".
        strength: the drift of a bar in units of the bar's volatility.
        mean_duration: bars that a drift lasts on average.
        duration_spread: standard deviation of the duration, relative to its mean. None: durations
            are geometric, so a drift does not age and recent returns say nearly all. With a small
            spread the age of a drift tells when it ends, which asks for the order of the bars.
    """
    return _market(num_symbols, num_bars, seed, interval, strength, mean_duration, duration_spread)


def known_posterior(
    num_windows: int, sequence_length: int = 8, num_features: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def hidden_volatility(symbol: int, num_bars: int, seed: int) -> np.ndarray:
    """Returns the volatility by which the bars of a symbol were drawn, (bars,)."""
    return _volatility(np.random.default_rng((seed, symbol)), num_bars)


MARKETS = {"walk": random_walk, "persistent_drift": persistent_drift}


def _market(
    num_symbols, num_bars, seed, interval, drift_strength, mean_duration=80.0, spread=None
) -> pd.DataFrame:
    frames = []
    for index in range(num_symbols):
        rng = np.random.default_rng((seed, index))
        volatility = _volatility(rng, num_bars)
        drift = drift_strength * _regime(rng, num_bars, mean_duration, spread) * volatility
        frame = _bars(rng, volatility, drift)
        frame["timestamp"] = pd.date_range("2024-01-01", periods=num_bars, freq=interval, tz="UTC")
        frame["symbol"] = f"SYN{index}"
        frames.append(frame)
    return check_bars(pd.concat(frames, ignore_index=True), "synthetic bars")


def _volatility(rng: np.random.Generator, num_bars: int) -> np.ndarray:
    """Returns a log-normal AR(1) volatility of a bar's log return, around 0.3 %.

    With steps of 0.05 and a memory of 0.99 a logistic regression reached an MCC of 0.06 on the
    volatility labels of a random walk.
    """
    log, shocks = np.empty(num_bars), rng.normal(scale=0.01, size=num_bars)
    level = 0.0
    for t in range(num_bars):
        level = 0.9995 * level + shocks[t]
        log[t] = level
    return 0.003 * np.exp(log)


def _regime(
    rng: np.random.Generator, num_bars: int, mean_duration: float, spread: float | None
) -> np.ndarray:
    """Returns +1, 0 or -1 for each bar, constant over geometric durations; else +1 or -1."""
    if spread is None:
        changes = rng.random(num_bars) < 1 / mean_duration
        signs = rng.integers(-1, 2, size=num_bars)
        return signs[np.maximum.accumulate(np.where(changes, np.arange(num_bars), 0))].astype(float)
    count = int(num_bars / mean_duration) + 3
    durations = rng.normal(mean_duration, spread * mean_duration, size=count).round().astype(int)
    signs = rng.choice([-1.0, 1.0], size=count)
    start = rng.integers(0, int(mean_duration))
    path = np.repeat(signs, np.maximum(durations, 1))
    return np.resize(path[start:], num_bars)


def _bars(rng: np.random.Generator, volatility: np.ndarray, drift: np.ndarray) -> pd.DataFrame:
    shape = (len(volatility), STEPS_PER_BAR)
    steps = rng.normal(size=shape) * (volatility / np.sqrt(STEPS_PER_BAR))[:, None]
    steps += (drift / STEPS_PER_BAR)[:, None]
    path = np.log(100.0) + np.cumsum(steps.ravel()).reshape(shape)
    before = np.concatenate([[np.log(100.0)], path[:-1, -1]])
    prices = np.exp(np.column_stack([before, path]))
    volume = 1000 * volatility / 0.003 * np.exp(rng.normal(scale=0.3, size=len(volatility)))
    return pd.DataFrame(
        {
            "open": prices[:, 0],
            "high": prices.max(axis=1),
            "low": prices.min(axis=1),
            "close": prices[:, -1],
            "volume": volume,
        }
    )
