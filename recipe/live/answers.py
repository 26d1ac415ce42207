"""How far to trust an exchange's answers: deadlines, waits, and which bars are possible."""

import contextlib
import email.utils
import http.client
import math
import numbers
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from core.i18n import _
from data.bars.checks import LARGEST_PRICE, LARGEST_VOLUME, LEAST_PRICE

LONGEST_BACK_OFF_S = 60
LONGEST_WAIT_S = 900  # whatever Retry-After says
LARGEST_ANSWER = 1 << 27  # bytes, unpacked
PASSING_STATUS = (408, 418, 425, 429)
# What ccxt's parsers raise on an answer of another form; a socket raises the last three.
NOT_UNDERSTOOD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
BROKEN = (*NOT_UNDERSTOOD, RecursionError, OSError, http.client.HTTPException, EOFError)
LAST_MS = 4_102_444_800_000  # the year 2100
SLACK = 1e-9  # relative to the high, for prices that were rounded one by one
OLDEST_CLOCK_MS = 1_230_768_000_000  # the year 2009: no exchange is older


class Unreadable(Exception):
    """A meaningless answer, or none in time: the same request may succeed later."""


def within(seconds: float, request: Callable, *args, **kwargs) -> Any:
    """Returns what a request returns; abandons it if it takes too long.

    The timeout of a socket applies to each read, so an answer that drips in never exceeds it.

    Raises:
        Unreadable: if the request has not ended after `seconds`.
    """
    ended: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            ended.put((request(*args, **kwargs), None))
        except BaseException as error:  # re-raised in the waiting thread
            ended.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = ended.get(timeout=seconds)
    except queue.Empty:
        text = _("no complete answer within {seconds:g} s", seconds=seconds)
        raise Unreadable(text) from None
    if error is not None:
        raise error
    return answer


def fault_of_rows(rows: Any) -> str | None:
    """Returns why an answer is not a list of bars, or None if it is."""
    if not isinstance(rows, list | tuple):
        return _("the answer must be a list of bars, got {kind}", kind=type(rows).__name__)
    for row in rows:
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) < 6:
            return _("a bar must have six values, got {row}", row=_short(row))
        if not is_time(row[0]):
            return _("a bar must begin with its time in ms, got {time}", time=_short(row[0]))
    return None


def fault_of_time(now: Any) -> str | None:
    """Returns why an answer is not an exchange's time, or None if it is."""
    if is_time(now) and now >= OLDEST_CLOCK_MS:
        return None
    return _("its time must be in ms since 1970, got {time}", time=_short(now))


def fault_of_markets(markets: Any) -> str | None:
    """Returns why an answer is not a table of markets, or None if it is."""
    if isinstance(markets, dict) and markets:
        return None
    return _("the answer must be a table of markets, got {kind}", kind=_short(markets))


def is_time(value: Any) -> bool:
    """Returns whether a value is a time in ms between 1970 and 2100."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return 0 <= float(value) < LAST_MS  # NaN is not


def sound(open_, high, low, close, volume) -> np.ndarray:
    """Returns which bars are possible: finite, in range, and not inverted.

    The ranges are those accepted when bars are read. The arrays and the returned booleans are
    `(bars,)`; NaN is never sound.
    """
    values = np.stack([np.asarray(part, np.float64) for part in (open_, high, low, close)])
    volume = np.asarray(volume, np.float64)
    open_, high, low, close = values
    plausible = ((values >= LEAST_PRICE) & (values <= LARGEST_PRICE)).all(axis=0)
    plausible &= (volume >= 0) & (volume <= LARGEST_VOLUME)
    slack = SLACK * np.where(plausible, high, 0)
    return (
        plausible
        & (np.maximum(open_, close) <= high + slack)
        & (np.minimum(open_, close) >= low - slack)
    )


def sound_rows(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """Returns which of an exchange's rows (time, open, high, low, close, volume) are possible."""
    numbers = [[_number(cell) for cell in row[1:6]] for row in rows]
    return sound(*np.array(numbers, np.float64).reshape(-1, 5).T)


def _number(cell: Any) -> float:
    try:
        return math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def demand_json(client: Any) -> None:
    """Makes ccxt's client refuse answers that are not JSON, and candles that are not a list.

    ccxt takes an HTML page or a table of errors for an empty list of bars.
    """
    import ccxt

    fetch, parse = client.fetch, client.parse_ohlcvs

    def fetched(url, *args, **kwargs):
        answer = fetch(url, *args, **kwargs)
        if not isinstance(answer, list | dict) or answer == {}:
            raise ccxt.BadResponse(
                _("the answer must be JSON, got {answer}", answer=_short(answer))
            )
        return answer

    def candles(rows, market=None, timeframe="1m", since=None, limit=None, *rest, **kwargs):
        if rows is not None and not isinstance(rows, list):
            raise ccxt.BadResponse(
                _("the answer must be a list of bars, got {kind}", kind=_short(rows))
            )
        for row in rows or []:
            time = client.parse_ohlcv(row, market)[0]
            if not is_time(time):
                raise ccxt.BadResponse(_("a bar must have a time, got {row}", row=_short(row)))
        return parse(rows, market, timeframe, since, limit, *rest, **kwargs)

    client.fetch, client.parse_ohlcvs = fetched, candles


def bound_answers(client: Any) -> None:
    """Gives ccxt's client a new session that refuses answers above `LARGEST_ANSWER` bytes."""
    import requests
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def send(self, *args, **kwargs):
            response = super().send(*args, **kwargs)
            body = bytearray()
            with contextlib.closing(response):
                for piece in response.iter_content(1 << 16):
                    body += piece
                    if len(body) > LARGEST_ANSWER:
                        raise requests.ConnectionError("the answer has no end")
            response._content = bytes(body)
            return response

    client.session.close()
    session = requests.Session()
    session.trust_env = client.session.trust_env
    session.mount("https://", Bounded())
    session.mount("http://", Bounded())
    client.session = session


def passes(error: BaseException) -> bool:
    """Returns whether the same request may succeed later."""
    import ccxt
    import requests

    if not isinstance(error, ccxt.BaseError) or isinstance(error, ccxt.DDoSProtection):
        return True
    if any(isinstance(cause, requests.exceptions.ContentDecodingError) for cause in _causes(error)):
        return True
    response = response_of(error)
    if response is None:
        return isinstance(error, ccxt.OperationFailed)
    return response.status_code >= 500 or response.status_code in PASSING_STATUS


def response_of(error: BaseException) -> Any:
    """Returns the HTTP response behind an error of ccxt, or None."""
    responses = (getattr(cause, "response", None) for cause in _causes(error))
    return next((response for response in responses if response is not None), None)


def wait_s(error: BaseException, tries: int, clock: Callable[[], float]) -> float:
    """Returns the seconds until the next try: doubled each time, or what Retry-After asks for."""
    back_off = float(min(2 ** min(tries - 1, 30), LONGEST_BACK_OFF_S))
    response = response_of(error)
    retry_after = "" if response is None else str(response.headers.get("Retry-After", "")).strip()
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - clock()
        except (ValueError, TypeError, LookupError, ArithmeticError, OSError):
            return back_off
    return min(max(seconds, back_off), LONGEST_WAIT_S) if seconds > back_off else back_off


def first_line(error: BaseException) -> str:
    """Returns an error's message, cut to one short line."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, NOT_UNDERSTOOD):
        text = _("the answer cannot be read ({kind}: {text})", kind=type(error).__name__, text=text)
    return _short(text.splitlines()[0], 160)


def _causes(error: BaseException | None):
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _short(value: Any, length: int = 60) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text[: 2 * length])
    return text if len(text) <= length else text[: length - 1] + "…"
