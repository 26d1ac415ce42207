"""The peers of benchmarks/layers.py, made with torch, and the task that all contestants share."""

import os

THREADS = 2
for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, str(THREADS))

import numpy as np  # noqa: E402

UNITS, HEADS, FEATURES, LENGTH, CLASSES = 64, 4, 25, 60, 3


def data(batch, length, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, length, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, size=batch).astype("int32")


def theirs(blocks, batch, length, stacked):
    """Returns functions for a training step and for inference, with torch."""
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    body = _torch_lstm() if blocks == "lstm" else _official(blocks, length, stacked)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Linear(FEATURES, UNITS)
            self.body, self.head = body, torch.nn.Linear(UNITS, CLASSES)

        def forward(self, x):
            return self.head(self.body(self.embedding(x))[:, -1])

    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = data(batch, length)
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    def infer():
        with torch.inference_mode():
            return model(x).numpy()

    return train, infer


def _torch_lstm():
    import torch

    class Outputs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(UNITS, UNITS, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0]

    return Outputs()


def _official(blocks, length, stacked):
    import torch
    import xlstm
    from xlstm.blocks.slstm import cell

    if stacked and "s" in blocks:
        cell.slstm_forward = stacked_once
        assert stacked_once in vars(cell).values()
    config = xlstm.xLSTMBlockStackConfig(
        mlstm_block=xlstm.mLSTMBlockConfig(mlstm=xlstm.mLSTMLayerConfig(num_heads=HEADS)),
        slstm_block=xlstm.sLSTMBlockConfig(
            slstm=xlstm.sLSTMLayerConfig(backend="vanilla", num_heads=HEADS),
            feedforward=xlstm.FeedForwardConfig(proj_factor=1.3, act_fn="gelu"),
        ),
        context_length=length,
        num_blocks=len(blocks),
        embedding_dim=UNITS,
        slstm_at=[place for place, letter in enumerate(blocks) if letter == "s"],
    )
    if "m" not in blocks:
        config.mlstm_block = None
    if "s" not in blocks:
        config.slstm_block = None
    stack = xlstm.xLSTMBlockStack(config)
    assert isinstance(stack, torch.nn.Module)
    return stack


def stacked_once(x, states, R, b, pointwise_forward, constants=None):  # noqa: N803
    """Returns what the official sLSTM loop does; the states are collected, then stacked once."""
    import torch

    batch, num_heads, head_dim = x.shape[1], R.shape[0], R.shape[2]
    num_gates = R.shape[1] // head_dim
    kernel = R.transpose(1, 2).reshape(1, num_heads, head_dim, num_gates * head_dim)
    all_states, all_gates = [states], []
    for step in x.unbind(dim=0):
        recurrent = states[0].reshape(batch, num_heads, 1, -1).matmul(kernel)
        recurrent = recurrent.reshape(batch, num_heads, num_gates, -1).transpose(1, 2)
        states, gates = pointwise_forward(
            step, recurrent.reshape(batch, -1), b, states, constants=constants or {}
        )
        all_states.append(states)
        all_gates.append(gates)
    return torch.stack(all_states, dim=1), states, torch.stack(all_gates)
