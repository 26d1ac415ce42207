"""The official vanilla sLSTM of PyTorch, measured by benchmarks/gpu.py in a process of its own."""

import time
from dataclasses import asdict

from gpu_work import Work

_COUNTED = (4, 8)  # steps by which the kernels of one are counted


def official(width: int, heads: int, batch: int, time_steps: int, stacked: bool = False) -> dict:
    """Returns seconds and work of the official sLSTM cell, forward and backward, in float32.

    The work is its kernels alone, one for each operation of PyTorch that makes an array: `launches`
    counts them, and they are so many that nothing else matters.

    Args:
        width: of a head.
        heads: of each sequence.
        batch: sequences.
        time_steps: of each.
        stacked: whether the states are collected and stacked once, not written one by one.
    """
    import torch
    from layers_peers import stacked_once
    from xlstm.blocks.slstm import cell as package
    from xlstm.blocks.slstm.src.vanilla import slstm_forward

    device = "cuda" if torch.cuda.is_available() else "cpu"
    package.slstm_forward = stacked_once if stacked else slstm_forward
    units = width * heads
    made = package.sLSTMCellConfig(
        hidden_size=units, num_heads=heads, backend="vanilla", dtype="float32"
    )
    cell = package.sLSTMCell(made).to(device)

    def call(steps: int) -> None:
        cell.zero_grad()
        # The heads of a gate beside each other, and the gates of a step: its own order.
        pre = torch.randn(batch, steps, 4 * units, device=device, requires_grad=True)
        cell(pre)[0].sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    few, more = (_operations(call, steps) for steps in _COUNTED)
    each = (more - few) / (_COUNTED[1] - _COUNTED[0])
    times = []
    for _ in range(2):  # the first is none that counts: memory is taken
        begun = time.perf_counter()
        call(time_steps)
        times.append(time.perf_counter() - begun)
    work = Work(launches=each * time_steps)
    return {"seconds": times[-1], "count": batch * time_steps, "work": asdict(work)}


def launch(kernels: int = 2000) -> float:
    """Returns the seconds of a small kernel of PyTorch after another."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(64, 64, device=device)
    for counted in (10, kernels):
        begun = time.perf_counter()
        for _ in range(counted):
            x = x + 1
        if device == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - begun) / kernels


def ceilings(kernels: int = 2000) -> dict:
    """Returns what a kernel takes in PyTorch, and its version."""
    import torch

    return {"launch": launch(kernels), "torch": torch.__version__}


def _operations(call, steps: int) -> int:
    """Returns how many operations a call makes arrays with."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            returns = function._schema.returns
            self.count += not (returns and returns[0].alias_info) or function._schema.is_mutable
            return function(*args, **(kwargs or {}))

    with Counter() as counter:
        call(steps)
    return counter.count


KINDS = {"official": official, "ceilings": ceilings}
