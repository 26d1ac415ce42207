"""The sLSTM cell (Beck et al. 2024, arXiv 2405.04517, section 2.2).

Glossary of the equations: i, f, z, o gates and cell input; c cell, n normaliser, m stabiliser (a
logarithm), h output; R recurrent weights, block-diagonal by head. Pre-activations are i_pre, ...

    m' = max(log sigmoid(f_pre) + m, i_pre)                               (eq. 15)
    a = exp(log sigmoid(f_pre) + m - m'),  b = exp(i_pre - m')            (eq. 16, 17)
    c' = a c + b tanh(z_pre),  n' = a n + b                               (eq. 8, 9)
    h' = sigmoid(o_pre) c' / n'                                           (eq. 10)

The forget gate is the sigmoid one of the official package, not the exponential variant. An empty
memory has n = 0 and counts as m = -infinity, for every element by itself, so that the first step
gives n' = 1 at any gate value.
"""

from typing import Any

from keras import ops

from models.layers.common import soft_cap
from models.layers.recurrence import scan, tanh, with_gradient

EMPTY = -1e30  # log of an empty memory: finite, so that differences of two are no NaN


def slstm_cell(pre, recurrent, state, *, cap=None, mask=None, reset=None, valid=None):
    """Returns outputs (time, batch, units) and the last state of the sLSTM recurrence.

    The gradient is written by hand. With r = c / n, alpha = a n / n' and beta = b / n', the cell
    is the weighted mean r' = alpha r + beta z, and h' = o r'. Let dr and e be the gradients for r'
    and log n'. Then those of the logarithms of b and a are

        di = beta (dr (z - r') + e),  dl = alpha (dr (r - r') + e)

    and the step before gets alpha dr and e = dl: there is no difference of large terms, as there
    is between those of c and n. All factors are made outside the loop, and the recurrent weights'
    gradient is one product after it. m is a constant, which is exact: c / n does not depend on it.

    Args:
        pre: two tensors (time, batch, 2 * units), gate pre-activations: i and f, z and o.
        recurrent: dense matrix (units, 4 * units) from h to the gates.
        state: h, c, n, m, each (batch, units).
        cap: soft cap of the i and f pre-activations; None: none.
        mask: scales of the recurrent input (batch, units), the same at all times; None: ones.
        reset: bool (time, batch), whether the state is emptied before the step; None: never.
        valid: bool (time, batch), false: the step passes the state on; None: always true.
    """
    h, c, n, m = state
    dtype = pre[0].dtype
    empty = n == 0
    m = ops.where(empty, ops.cast(EMPTY, dtype), m)
    r = c / ops.where(empty, ops.ones_like(n), n)
    mask = ops.ones_like(h) if mask is None else mask
    flags = [ops.cast(x[..., None], dtype) for x in (reset, valid) if x is not None]
    flagged = reset is not None, valid is not None

    @with_gradient
    def run(recurrent, mask, h, r, n, m, *steps):
        last, saved = _forward(recurrent, mask, [h, r, n, m], steps, cap, *flagged)

        def gradient(upstream):
            dy, dh, dr, dn, _ = upstream
            # log n gets n times what n gets; m is a constant.
            last_gradients = dy, dh, dr, dn * last[2]
            return _backward(last_gradients, saved, recurrent, mask, h, r, n, steps, cap, *flagged)

        return (saved[0], *last), gradient

    y, h, r, n, m = run(recurrent, mask, h, r, n, m, *pre, *flags)
    return y, [h, r * n, n, m]


def _flags(steps, has_reset: bool, has_valid: bool) -> tuple[Any, Any]:
    """Returns keeps (0 at a reset) and valid of the steps; None where there is no flag."""
    rest = list(steps[2:])
    keeps = 1 - rest.pop(0) if has_reset else None
    return keeps, rest.pop(0) if has_valid else None


def _forward(recurrent, mask, state, steps, cap, has_reset: bool, has_valid: bool):
    """Returns the last state; for each step h, r, a n, b, z and what h gives to the gates.

    At small batches half of a training step is this loop, and what counts there is how many arrays
    it makes: what can be had from these is made of all steps at once, see `_activations`.
    """
    like = ops.zeros_like(state[0])

    def step(state, inputs):
        h, r, n, m = state
        keeps, valid = _flags(inputs, has_reset, has_valid)
        if has_reset:
            h, r, n = h * keeps, r * keeps, n * keeps
            m = ops.where(keeps > 0, m, ops.full_like(m, EMPTY))
        back = ops.matmul(h * mask, recurrent)  # (batch, 4 * units)
        i, f, z, o = _gates(inputs, back)
        i, f = soft_cap(i, cap), soft_cap(f, cap)
        kept = m + (ops.minimum(f, 0) - ops.log1p(ops.exp(-ops.abs(f))))  # m + log sigmoid(f)
        m_new = ops.maximum(kept, i)
        # One exponential for both of a pair: of exp(x - max) and exp(y - max) one is 1.
        lesser = ops.exp(-ops.abs(kept - i))
        a = ops.where(kept < i, lesser, ops.ones_like(lesser)) * n
        b = ops.where(kept < i, ops.ones_like(lesser), lesser)
        n_new = a + b
        z = tanh(z)  # saved, too: inside of what follows, written over r, it is not vectorised
        r_new = (a * r + b * z) / n_new
        h_new = ops.sigmoid(o) * r_new
        if has_valid:
            h_new, r_new, n_new, m_new = (
                ops.where(valid > 0, new, old)
                for new, old in zip((h_new, r_new, n_new, m_new), (h, r, n, m), strict=True)
            )
        return [h_new, r_new, n_new, m_new], [h_new, r_new, a, b, z, back]

    wide = ops.concatenate([like] * 4, axis=-1)
    return scan(step, state, steps, [like] * 5 + [wide])


def _gates(steps, back):
    """Returns the pre-activations of i, f, z and o, from the given ones and those from h."""
    pre = (part for x in steps[:2] for part in ops.split(x, 2, axis=-1))
    return [x + y for x, y in zip(pre, ops.split(back, 4, axis=-1), strict=True)]


def _activations(saved, steps, cap):
    """Returns h, r, alpha, beta, z, o, and the slopes of log sigmoid(f) and of i, or None for 1."""
    h, r, a, b, z, back = saved
    i, f, _, o = _gates(steps, back)
    slope, slope_of_i = ops.sigmoid(-soft_cap(f, cap)), None
    if cap:
        slope, slope_of_i = slope * _slope_of_cap(f, cap), _slope_of_cap(i, cap)
    return h, r, a / (a + b), b / (a + b), z, ops.sigmoid(o), slope, slope_of_i


def _slope_of_cap(x, cap):
    return 1 - ops.square(tanh(x / cap))


def _backward(upstream, saved, recurrent, mask, h0, r0, n0, steps, cap, has_reset, has_valid):
    """Returns the gradients for recurrent, mask, h, r, n, m and the steps."""
    h, r, alpha, beta, z, o, slope, slope_of_i = _activations(saved, steps, cap)
    keeps, valid = _flags(steps, has_reset, has_valid)
    h_before = ops.concatenate([h0[None], h[:-1]])
    r_before = ops.concatenate([r0[None], r[:-1]])
    if has_reset:
        h_before, r_before = h_before * keeps, r_before * keeps
    to_o, to_r = r * o * (1 - o), o
    if has_valid:  # a step that is passed over keeps everything and gets nothing
        alpha = ops.where(valid > 0, alpha, ops.ones_like(alpha))
        beta, slope, to_o, to_r = (
            ops.where(valid > 0, x, ops.zeros_like(x)) for x in (beta, slope, to_o, to_r)
        )
    # di + dl = e: the smaller is computed, the other is the rest.
    keeps_more = alpha > beta
    lesser = ops.minimum(alpha, beta)
    lesser_r = ops.where(keeps_more, beta * (z - r), alpha * (r_before - r))
    factors = [
        ops.cast(keeps_more, alpha.dtype),
        lesser,
        lesser_r,
        alpha,
        slope,
        beta * (1 - z * z),
        to_o,
        to_r,
    ]
    dy, dh, dr, e = upstream
    backwards = ops.transpose(recurrent)
    options = [x for x in (slope_of_i, keeps, valid) if x is not None]

    def step(state, inputs):
        dh, dr, e = state
        dy, keeps_more, lesser, lesser_r, alpha, slope, to_z, to_o, to_r, *options = inputs
        dh = dh + dy
        dr = dr + dh * to_r
        few = lesser * e + lesser_r * dr
        di = ops.where(keeps_more > 0, few, e - few)
        dl = e - di
        if cap:
            di = di * options[0]
        gates = ops.concatenate([di, dl * slope, dr * to_z, dh * to_o], axis=-1)
        dh_before = ops.matmul(gates, backwards) * mask
        if has_valid:
            dh_before = dh_before + dh * (1 - options[-1])
        dr = dr * alpha
        if has_reset:
            keeps = options[1] if cap else options[0]
            dh_before, dr, dl = dh_before * keeps, dr * keeps, dl * keeps
        return [dh_before, dr, dl], [gates, e]

    likes = [ops.concatenate([ops.zeros_like(e)] * 4, axis=-1), ops.zeros_like(e)]
    (dh, dr, e), (gates, after) = scan(
        step, [dh, dr, e], [dy, *factors, *options], likes, reverse=True
    )
    rows = [ops.reshape(x, (-1, x.shape[-1])) for x in (h_before * mask, gates)]
    d_recurrent = ops.matmul(ops.transpose(rows[0]), rows[1])
    di = _differences(ops.concatenate([e[None], after]))
    if cap:
        di = di * slope_of_i
    units = e.shape[-1]
    d_pre = ops.concatenate([di, gates[..., units : 2 * units]], axis=-1), gates[..., 2 * units :]
    safe = ops.where(n0 == 0, ops.ones_like(n0), n0)
    rest = [ops.zeros_like(x) for x in steps[2:]]
    return d_recurrent, ops.zeros_like(mask), dh, dr, e / safe, e, *d_pre, *rest


def _differences(e):
    """Returns di = e - dl of each step, from e before the first and after each (time + 1, ...).

    They are differences on a grid of about 2^-20 of the largest e, so that they and sums of them,
    up to 16 times as large, are exact. So the sum over time, which is the gradient of the input
    gate's bias, is 0 from an empty start in whatever order it is taken, and not what the rounding
    of hundreds of steps leaves.
    """
    large = 16 * ops.max(ops.abs(e), axis=(0, 1))
    on_grid = (e + large) - large
    return on_grid[1:] - on_grid[:-1]
