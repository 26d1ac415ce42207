"""The sLSTM cell with the batch first, as the reference numbers have it."""

from keras import ops

from models.layers import slstm_cell as time_first


def slstm_cell(pre, recurrent, state, *, reset=None, valid=None, **options):
    """Takes pre (batch, time, 4 * units) and flags (batch, time); outputs (batch, time, units)."""
    parts = [ops.transpose(part, (1, 0, 2)) for part in ops.split(pre, 2, axis=-1)]
    flags = {"reset": reset, "valid": valid}
    flags = {name: None if flag is None else ops.transpose(flag) for name, flag in flags.items()}
    y, state = time_first.slstm_cell(parts, recurrent, state, **flags, **options)
    return ops.transpose(y, (1, 0, 2)), state
