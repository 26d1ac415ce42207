"""Markets with a known signal, and with none, for tests and demonstrations."""

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import _
from data.bars.checks import check_bars

PREFIX = "synthetic:"
STEPS_PER_BAR = 4
DRIFT_STRENGTH, MEAN_DURATION = 0.5, 80.0  # of `persistent_drift`
CLOCK_RATIO, BUSIEST_HOUR = 3.0, 14.0  # of `volatility_clock`; UTC
# Volatility of what all symbols do, in units of that of what each does by itself.
COMMON_RATIOS = {"relative_drift": 6.0, "market_drift": 1.0}
START, INTERVAL = "2024-01-01", "15min"
PARAMETERS = {"bars": ("num_bars", 5000), "symbols": ("num_symbols", 8), "seed": ("seed", 0)}
LEAST = {"bars": 2, "symbols": 1, "seed": 0}
MOST = {"bars": 1_000_000, "symbols": 1000, "seed": 2**31 - 1}


def read_synthetic(text: str) -> pd.DataFrame:
    """Returns the market that a text names, such as `synthetic:walk?bars=5000&symbols=8&seed=1`.

    Args:
        text: `synthetic:walk` (nothing to be learnt), `synthetic:persistent_drift` (a signal),
            `synthetic:volatility_clock` (it can be learnt when prices move, and not where to),
            `synthetic:relative_drift` (where symbols move beside the market) or
            `synthetic:market_drift` (where the market moves); after `?` any of bars (each
            symbol's), symbols and seed.

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
    num_symbols: int = 4, num_bars: int = 4000, seed: int = 0, interval: str = INTERVAL
) -> pd.DataFrame:
    """Returns bars of a random walk with stochastic volatility: no return can be forecast.

    The volatility drifts so slowly that the labels' past volatility says nearly all that is to be
    known of it; a faster one would make the size of a move, and so HOLD, forecastable.
    """
    return _market("walk", num_symbols, num_bars, seed, interval, drift_strength=0.0)


def volatility_clock(
    num_symbols: int = 4, num_bars: int = 4000, seed: int = 0, interval: str = INTERVAL
) -> pd.DataFrame:
    """Returns bars of a random walk that is three times as volatile at its busiest hour.

    The log price is a martingale: nothing says where it moves to. When it moves, the clock says,
    which labels in units of the past volatility do not know of.
    """
    return _market("volatility_clock", num_symbols, num_bars, seed, interval, drift_strength=0.0)


def persistent_drift(
    num_symbols: int = 4,
    num_bars: int = 4000,
    seed: int = 0,
    interval: str = INTERVAL,
    strength: float = DRIFT_STRENGTH,
    mean_duration: float = MEAN_DURATION,
) -> pd.DataFrame:
    """Returns bars with a hidden drift of either sign that lasts long enough to be learnt.

    Args:
        num_symbols: symbols, independent of one another.
        num_bars: bars of each.
        seed: of the generator.
        interval: a pandas offset such as "15min".
        strength: the drift of a bar in units of the bar's volatility.
        mean_duration: bars that a drift lasts on average; geometric, so a drift does not age and
            recent returns say nearly all.
    """
    return _market(
        "persistent_drift", num_symbols, num_bars, seed, interval, strength, mean_duration
    )


def relative_drift(
    num_symbols: int = 8, num_bars: int = 4000, seed: int = 0, interval: str = INTERVAL
) -> pd.DataFrame:
    """Returns bars of a common walk, and a hidden drift in what each symbol does beside it.

    What all do is six times as volatile: where a symbol itself moves is hardly to be foreseen.
    """
    return _common_market("relative_drift", num_symbols, num_bars, seed, interval)


def market_drift(
    num_symbols: int = 8, num_bars: int = 4000, seed: int = 0, interval: str = INTERVAL
) -> pd.DataFrame:
    """Returns bars of a common path with a hidden drift, and what each symbol does is a walk."""
    return _common_market("market_drift", num_symbols, num_bars, seed, interval)


def hidden_parts(
    name: str, num_symbols: int, num_bars: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what the bars of `relative_drift` and `market_drift` are the sum of.

    Args:
        name: of the market.
        num_symbols: of it.
        num_bars: of each.
        seed: of it.

    Returns:
        volatility of what a symbol does by itself in a bar, (bars,); log steps of what all do,
        (bars, steps), and of each by itself, (symbols, bars, steps).
    """
    rng = np.random.default_rng((seed, MOST["symbols"]))
    volatility, ratio = _volatility(rng, num_bars) / COMMON_RATIOS[name], COMMON_RATIOS[name]
    drift = DRIFT_STRENGTH * (name == "market_drift")
    common = _steps(rng, ratio * volatility, drift)
    by_symbol = np.empty((num_symbols, num_bars, STEPS_PER_BAR))
    drift = DRIFT_STRENGTH * (name == "relative_drift")
    for index in range(num_symbols):
        by_symbol[index] = _steps(np.random.default_rng((seed, index)), volatility, drift)
    return volatility, common, by_symbol


def hidden_volatility(
    name: str, symbol: int, num_bars: int, seed: int, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the volatility of each bar of a symbol, and what is expected of the bars after it.

    Args:
        name: of the market.
        symbol: its number.
        num_bars: of the symbol.
        seed: of the market.
        horizon: bars that are looked ahead.

    Returns:
        the volatility by which a bar was drawn, and the root of the mean variance of the `horizon`
        bars after it for who knows that volatility and the clock; both (bars,).
    """
    level = _volatility(np.random.default_rng((seed, symbol)), num_bars)
    clock = _clock(name, _times(num_bars + horizon, INTERVAL))
    sums = np.cumsum(np.concatenate([[0.0], clock**2]))
    after = np.sqrt((sums[horizon + 1 :] - sums[1:-horizon]) / horizon)
    return level * clock[:num_bars], level * after


MARKETS = {
    "walk": random_walk,
    "persistent_drift": persistent_drift,
    "volatility_clock": volatility_clock,
    "relative_drift": relative_drift,
    "market_drift": market_drift,
}


def _market(
    name, num_symbols, num_bars, seed, interval, drift_strength, mean_duration=MEAN_DURATION
) -> pd.DataFrame:
    times = _times(num_bars, interval)
    frames = []
    for index in range(num_symbols):
        rng = np.random.default_rng((seed, index))
        volatility = _volatility(rng, num_bars) * _clock(name, times)
        steps = _steps(rng, volatility, drift_strength, mean_duration)
        frames.append(_bars(rng, volatility, steps))
    return _together(frames, times)


def _common_market(name, num_symbols, num_bars, seed, interval) -> pd.DataFrame:
    volatility, common, by_symbol = hidden_parts(name, num_symbols, num_bars, seed)
    whole = volatility * np.hypot(1, COMMON_RATIOS[name])
    frames = [
        _bars(np.random.default_rng((seed, index, 1)), whole, common + steps)
        for index, steps in enumerate(by_symbol)
    ]
    return _together(frames, _times(num_bars, interval))


def _together(frames: list[pd.DataFrame], times: pd.DatetimeIndex) -> pd.DataFrame:
    for index, frame in enumerate(frames):
        frame["timestamp"] = times
        frame["symbol"] = f"SYN{index}"
    return check_bars(pd.concat(frames, ignore_index=True), "synthetic bars")


def _times(num_bars: int, interval: str) -> pd.DatetimeIndex:
    return pd.date_range(START, periods=num_bars, freq=interval, tz="UTC")


def _clock(name: str, times: pd.DatetimeIndex) -> np.ndarray:
    """Returns the factor of the volatility at each time, (bars,): 1 but on `volatility_clock`."""
    if name != "volatility_clock":
        return np.ones(len(times))
    hours = (times.hour + times.minute / 60 - BUSIEST_HOUR).to_numpy()
    return np.sqrt(CLOCK_RATIO) ** np.cos(2 * np.pi * hours / 24)


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


def _regime(rng: np.random.Generator, num_bars: int, mean_duration: float) -> np.ndarray:
    """Returns +1, 0 or -1 for each bar, constant over geometric durations."""
    changes = rng.random(num_bars) < 1 / mean_duration
    signs = rng.integers(-1, 2, size=num_bars)
    return signs[np.maximum.accumulate(np.where(changes, np.arange(num_bars), 0))].astype(float)


def _steps(
    rng: np.random.Generator, volatility: np.ndarray, strength: float, mean_duration=MEAN_DURATION
) -> np.ndarray:
    """Returns the log steps inside each bar, (bars, steps)."""
    drift = strength * _regime(rng, len(volatility), mean_duration) * volatility
    steps = rng.normal(size=(len(volatility), STEPS_PER_BAR))
    steps *= (volatility / np.sqrt(STEPS_PER_BAR))[:, None]
    return steps + (drift / STEPS_PER_BAR)[:, None]


def _bars(rng: np.random.Generator, volatility: np.ndarray, steps: np.ndarray) -> pd.DataFrame:
    path = np.log(100.0) + np.cumsum(steps.ravel()).reshape(steps.shape)
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
