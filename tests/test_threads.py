"""Work in threads: in order, at once, in the language of now, and given up when nobody waits."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core import threads
from core.i18n import language, speaking


@pytest.fixture(params=[1, 3])
def cores(request, monkeypatch):
    monkeypatch.setattr(threads, "num_cores", lambda: request.param)
    return request.param


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_results_come_in_the_order_of_the_items(cores, count):
    assert threads.side_by_side(lambda n: n * n, range(count)) == [n * n for n in range(count)]


def test_as_many_are_worked_on_at_once_as_there_are_cores(monkeypatch):
    monkeypatch.setattr(threads, "num_cores", lambda: 3)
    together = threading.Barrier(3, timeout=10)
    assert len(threads.side_by_side(lambda n: together.wait(), range(6))) == 6


def test_what_is_said_in_a_thread_is_in_the_language_of_now(cores):
    with speaking("ru"):
        assert threads.side_by_side(lambda n: language(), range(4)) == ["ru"] * 4
        with threads.beside(lambda progress: language()) as wait:
            assert wait(lambda share: None) == "ru"


def test_after_an_error_nothing_else_is_begun(cores):
    begun = []

    def work(n):
        begun.append(n)
        raise ValueError(f"item {n}")

    with pytest.raises(ValueError, match="item 0"):
        threads.side_by_side(work, range(100))
    assert len(begun) < 50


def test_work_beside_goes_on_while_others_do_and_tells_how_far_it_is():
    passed, shares = threading.Event(), []

    def work(progress):
        progress(0.1)  # nobody asks yet
        assert passed.wait(10)
        progress(0.5)
        return "done"

    with threads.beside(work) as wait:
        threading.Timer(0.05, passed.set).start()
        assert wait(shares.append) == "done"
        assert wait(shares.append) == "done"  # known already
    assert shares[-1] == 0.5


def test_an_error_beside_is_raised_where_the_result_is_asked_for():
    def work(progress):
        raise OSError("no space left")

    with threads.beside(work) as wait, pytest.raises(OSError, match="no space left"):
        wait(lambda share: None)


def test_work_beside_is_given_up_at_once_when_the_context_is_left():
    begun, ended = threading.Event(), []

    def work(progress):
        begun.set()
        try:
            for _ in range(6000):  # ten minutes; it never says how far it is
                time.sleep(0.1)
        finally:
            ended.append("it let go of what it held")
        ended.append("it went on")

    def leave():
        with threads.beside(work):
            assert begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert ended == ["it let go of what it held"]


# Where it meets a callback of a weak reference, Python reports it and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_work_that_ends_while_the_context_is_left_raises_nothing_in_its_thread(monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    for _ in range(300):
        with threads.beside(lambda progress: None):
            pass
    assert raised == []


@pytest.mark.skipif(threads.num_cores() < 2, reason="libraries start no more threads than cores")
@pytest.mark.parametrize(("given", "cores", "left"), [(2, 2, 1), (1, 4, 1), (2, 16, 2)])
def test_libraries_get_half_of_the_cores_beside_but_no_more_than_they_had(given, cores, left):
    script = f"""
import sklearn.ensemble  # has OpenMP
from threadpoolctl import threadpool_info
from core import threads
threads.num_cores = lambda: {cores}
def pools(progress=None):
    print(sorted({{(pool["user_api"], pool["num_threads"]) for pool in threadpool_info()}}))
with threads.beside(pools) as wait:
    wait(lambda share: None)
pools()
"""
    given_to = {name: str(given) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | given_to,
        cwd=Path(threads.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    both = "[('blas', {0}), ('openmp', {0})]"
    assert told == [both.format(left), both.format(given)]
