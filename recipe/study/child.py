"""The process of one cell: a command that ends at once when the worker that started it ends.

A worker that is killed cannot end its child. The child therefore watches the pipe from its worker,
which the system closes: another worker may resume the run, and two must not write to one folder.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_the_worker() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    sys.argv = sys.argv[1:]  # the module and its arguments
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
