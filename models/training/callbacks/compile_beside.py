"""What follows the epochs is compiled while the training step is."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import keras


class CompileBeside(keras.callbacks.Callback):
    """Lets other callbacks compile what they will need, in a thread, from the start of a training.

    Tracing a training step and half of its compilation keep one core busy, so what validates and
    mines is compiled on another, and not when the first epoch ends. What is compiled first is
    traced before the training step: two threads that trace wait for each other's Python, and the
    other core has nothing to compile. On TensorFlow alone: on JAX a training step owns the weights
    while it runs.

    Listed before the callbacks that it is for: at the end of the first epoch it waits for the
    thread, `seconds` long.

    Args:
        parts: callbacks with a `trace()`, which is called at once, and a `compile()`, which is
            called in the thread: it may read weights but changes nothing that training depends on.
            An exception in it is raised at the end of the epoch.
    """

    def __init__(self, parts: Sequence[keras.callbacks.Callback]):
        super().__init__()
        self.parts = [part for part in parts if part is not None]
        self.seconds = 0.0
        self._running: list[Future] = []

    def on_train_begin(self, logs=None):
        if keras.backend.backend() == "tensorflow":
            for part in self.parts:
                part.trace()
            thread = ThreadPoolExecutor(1)
            self._running = [thread.submit(part.compile) for part in self.parts]
            thread.shutdown(wait=False)

    def on_epoch_end(self, epoch, logs=None):
        """Waits for what is not done yet."""
        started = time.perf_counter()
        for task in self._running:
            task.result()
        self._running = []
        self.seconds += time.perf_counter() - started
