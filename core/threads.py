"""Threads for what lets go of Python's lock: compiled code of TensorFlow, NumPy, scikit-learn."""

import contextlib
import contextvars
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[float], None]  # takes the share that is done
_MOST = 4  # threads; each holds what it works on


def num_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Returns what `work` gives for each item, in order, worked on by as many threads as cores.

    After an exception, or an interrupt, nothing is begun that was not under way.
    """
    items = list(items)
    num_threads = min(num_cores(), _MOST, len(items))
    if num_threads < 2:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(num_threads)
    try:
        # Each in the language of now, which a thread does not know by itself.
        tasks = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
        return [task.result() for task in tasks]
    finally:
        pool.shutdown(cancel_futures=True)


class _Left(BaseException):
    """Nobody waits for the work any more."""


@contextlib.contextmanager
def beside(work: Callable[[Progress], Result]) -> Iterator[Callable[[Progress], Result]]:
    """Works in a thread; where the context is left before the end, the work is given up.

    Libraries that have threads of their own (OpenMP, BLAS) get half of the cores for it, or fewer
    where the environment says so: two that wait for each other at every step, beside others on the
    same cores, cost all of them time.

    It is given up wherever it is in Python code, as Ctrl-C would end it in the main thread: a call
    of compiled code, such as a round of boosting, is waited for.

    Args:
        work: takes a function that it calls with the share that is done.

    Yields:
        A function that waits for the result and returns it, or raises what the work raised. It
        takes a function that is called with the shares from then on.
    """
    told, result, ending = _Told(), Future(), threading.Lock()
    context = contextvars.copy_context()
    libraries = ThreadpoolController()

    def run() -> None:
        with contextlib.suppress(_Left):
            try:
                _halve(libraries, "openmp")  # of this thread alone
                answer = context.run(work, told)
            except BaseException as error:  # raised where the result is asked for
                ended = functools.partial(result.set_exception, error)
            else:
                ended = functools.partial(result.set_result, answer)
            with ending:
                ended()

    def wait(progress: Progress) -> Any:
        told.to = progress
        return result.result()

    thread = threading.Thread(target=run)
    with _halve(libraries, "blas"):  # of all threads
        thread.start()
        try:
            yield wait
        finally:
            with ending:
                if not result.done():
                    _raise_in(thread, _Left)
            thread.join()


def _halve(libraries: ThreadpoolController, api: str) -> Any:
    """Gives libraries half of the cores at most, and returns a context that takes that back."""
    threads = (library["num_threads"] for library in libraries.select(user_api=api).info())
    return libraries.limit(limits=min([max(1, num_cores() // 2), *threads]), user_api=api)


def _raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Has a thread raise an exception at its next step in Python."""
    number = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(error))


class _Told:
    """Passes shares on to whoever asks for them now."""

    def __init__(self):
        self.to: Progress = lambda share: None

    def __call__(self, share: float) -> None:
        self.to(share)
