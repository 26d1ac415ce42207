"""The mLSTM cell (Beck et al. 2024, arXiv 2405.04517, section 2.3).

Glossary of the equations: q, k, v query, key, value; i, f gate pre-activations, one of each for
every head; C matrix memory, n normaliser, m stabiliser (a logarithm), h output. With
F(s, t) = sum of log sigmoid(f_u) over s < u <= t:

    h_t = sum_s S(t, s) v_s / (max(|sum_s S(t, s)|, exp(-m_t)) + 1e-6)
    S(t, s) = q_t . k_s / sqrt(head_dim) exp(F(s, t) + i_s - m_t),  m_t = max_s F(s, t) + i_s

which is the recurrence C' = f C + i k v^T, n' = f n + i k, h = C q / max(|n . q|, 1) (eq. 19-27),
stabilised. It is computed chunk by chunk. Within a chunk let F_t be the sum from its first step
and a_s = i_s - F_s: the weight of s at t is exp(a_s - M_t), where M_t is the largest of a_1 .. a_t
and of the m that the chunk began with, and m_t = F_t + M_t. One chunk is the parallel form, chunks
of one step are the recurrent form.

With gates of hundreds F_t is thousands, and its last bit in float32 would be an error of 1e-4 in
the weights. So each of these logarithms is a pair, a whole number and a rest: sums and differences
of whole numbers are exact, and so is the difference of one and M_t where its exponential matters.
The rest alone has a gradient.
"""

import math

import numpy as np
from keras import ops

from models.layers.recurrence import scan, weighted_sums, with_gradient

EMPTY = -1e30  # log of an empty memory: finite, so that differences of two are no NaN
CELL_EPSILON = 1e-6
_ONE_CHUNK, _CHUNK = 64, 32
_LARGEST_EXPONENT = 80.0


def mlstm_cell(q, k, v, i, f, state=None, *, segments=None, chunk=None, last_only=False):
    """Returns h (heads, batch, time, head_dim) and the last state C, n, m.

    The first two axes may as well be (batch, heads), in all arguments.

    Args:
        q: queries (heads, batch, time, head_dim).
        k: keys, of the same shape.
        v: values, of the same shape.
        i: input gate pre-activations (heads, batch, time).
        f: forget gate pre-activations (heads, batch, time).
        state: C (heads, batch, head_dim, head_dim), key channel first, with 1 / sqrt(head_dim)
            inside, n (heads, batch, head_dim), m (heads, batch); None: empty.
        segments: int32 (1, batch, time), from 0, rising by 1 where the memory is emptied before a
            step.
        chunk: steps of a chunk, any number. None: up to 64 steps are one chunk, more are chunks
            of 32.
        last_only: whether h of the last step alone is wanted, (heads, batch, 1, head_dim).
    """
    time = q.shape[2]
    length = min(chunk or (time if time <= _ONE_CHUNK else _CHUNK), time)
    num_chunks = -(-time // length)
    last_query = q[:, :, -1:]
    if num_chunks == 1:
        written, left = _write(k, v, i, f, segments)
        h = _read(last_query if last_only else q, k, v, i, f, state, segments)
        return h, written if state is None else _advance(state, written, left)
    spare = num_chunks * length - time
    if spare:  # steps that write nothing and forget nothing
        q, k, v = (ops.pad(x, ((0, 0), (0, 0), (0, spare), (0, 0))) for x in (q, k, v))
        i = ops.pad(i, ((0, 0), (0, 0), (0, spare)), constant_values=EMPTY)
        f = ops.pad(f, ((0, 0), (0, 0), (0, spare)), constant_values=-EMPTY)
        if segments is not None:
            last = ops.repeat(segments[..., -1:], spare, axis=-1)
            segments = ops.concatenate([segments, last], axis=-1)
    if state is None:
        first, second = ops.shape(q)[:2]
        state = empty_state(first, second, q.shape[3], q.dtype)
    q, k, v, i, f = (_in_chunks(x, num_chunks) for x in (q, k, v, i, f))
    if segments is not None:
        parts = _in_chunks(segments, num_chunks)
        # Counted from the end of the chunk before, whose memory segment 0 may use.
        before = ops.concatenate([ops.zeros_like(parts[:1, ..., -1:]), parts[:-1, ..., -1:]])
        segments = parts - before
    # Everything but the sums of memories over chunks is done for all chunks at once.
    states, state = _states(state, *_write(k, v, i, f, segments))
    if last_only:
        k, v, i, f, segments = (None if x is None else x[-1] for x in (k, v, i, f, segments))
        return _read(last_query, k, v, i, f, [x[-1] for x in states], segments), state
    h = ops.moveaxis(_read(q, k, v, i, f, states, segments), 0, 2)
    h = ops.reshape(h, (*ops.shape(h)[:2], num_chunks * length, h.shape[4]))
    return h[:, :, :time], state


def _in_chunks(x, num_chunks: int):
    """Returns x (heads, batch, time, ...) as (chunks, heads, batch, length, ...)."""
    length = x.shape[2] // num_chunks
    x = ops.reshape(x, (*ops.shape(x)[:2], num_chunks, length, *x.shape[3:]))
    return ops.moveaxis(x, 2, 0)


def _read(q, k, v, i, f, state, segments):
    """Returns h at the steps of the queries, the last ones of a chunk, (..., queries, head_dim).

    Args:
        q: queries (..., queries, head_dim).
        k: keys (..., length, head_dim).
        v: values, of the same shape.
        i: input gate pre-activations (..., length).
        f: forget gate pre-activations (..., length).
        state: C, n, m before the chunk; None: empty.
        segments: resets so far in the chunk, (..., length); None: no resets.
    """
    wanted = q.shape[-2]
    (whole, rest), forgotten, middle = _gates(i, f)
    seen = _seen(segments, i.shape[-1], wanted)
    a = whole + rest
    if segments is None and wanted == a.shape[-1]:
        largest = _running_max(a)  # M_t
    else:
        largest = ops.max(ops.where(seen, a[..., None, :], ops.cast(EMPTY, a.dtype)), axis=-1)
    if state is not None:
        carried = state[2][..., None] + sum(middle)  # (..., 1)
        if segments is not None:
            first = segments[..., -wanted:] == 0
            carried = ops.where(first, carried, ops.cast(EMPTY, a.dtype))
        largest = ops.maximum(largest, carried)
    shift = ops.stop_gradient(largest)
    h, norm = _attend(q, k, v, rest, whole, shift, seen)
    if state is not None:
        # Differences: TensorFlow's graphs reorder a sum of three of unlike shapes.
        share = state[2][..., None] - (shift - middle[0]) + middle[1]
        if segments is not None:
            share = ops.where(first, share, ops.cast(EMPTY, a.dtype))
        share = ops.exp(share)  # of the carried memory
        h = h + share[..., None] * ops.matmul(q, state[0])
        norm = norm + share * ops.sum(q * state[1][..., None, :], axis=-1)
    # A constant exponent above the clip: exp would overflow, and 0 * inf in its gradient is NaN.
    m = forgotten[0][..., -wanted:] + shift + forgotten[1][..., -wanted:]
    bound = ops.maximum(ops.abs(norm), ops.exp(ops.minimum(-m, _LARGEST_EXPONENT))) + CELL_EPSILON
    # h depends on M through the epsilon alone: a factor 1 that has this gradient.
    factor = 1 - ops.stop_gradient(CELL_EPSILON / bound) * (largest - shift)
    return h * (factor / bound)[..., None]


def _attend(q, k, v, rest, whole, shift, seen):
    """Returns the sums over s of W(t, s) v_s, (..., queries, head_dim), and of W(t, s).

    W(t, s) = q_t . k_s / sqrt(head_dim) exp(whole_s - shift_t + rest_s) where s is seen from t. The
    gradient for rest_s is the sum over t of W(t, s) (dh_t . v_s + dnorm_t), which the gradient for
    v_s, the sum of W(t, s) dh_t, gives without another array of queries by steps.
    """
    scale = 1 / math.sqrt(q.shape[-1])

    @with_gradient
    def run(q, k, v, rest, whole, shift, seen):
        logs = whole[..., None, :] - shift[..., None] + rest[..., None, :]
        factors = scale * ops.exp(ops.where(seen > 0, logs, ops.cast(EMPTY, logs.dtype)))
        weights = factors * _products(q, k)

        def gradient(upstream):
            dh, dnorm = upstream
            products = factors * (ops.matmul(dh, ops.swapaxes(v, -1, -2)) + dnorm[..., None])
            dq, dk = ops.matmul(products, k), ops.matmul(ops.swapaxes(products, -1, -2), q)
            dv = ops.matmul(ops.swapaxes(weights, -1, -2), dh)
            two = ops.stack([dnorm, dnorm], axis=-2)  # rows: a product of one is slower under XLA
            d_rest = ops.sum(dv * v, axis=-1) + ops.matmul(two, weights)[..., 0, :]
            return dq, dk, dv, d_rest, *(ops.zeros_like(x) for x in (whole, shift, seen))

        return (ops.matmul(weights, v), ops.sum(weights, axis=-1)), gradient

    return run(q, k, v, rest, whole, shift, ops.cast(seen, q.dtype))


def _products(q, k):
    """Returns q_t . k_s, (..., queries, length).

    Of a single chunk cut out of an array with a column more: XLA on a CPU writes the product of two
    arrays of a shape over one of them, and then takes the exponentials in it one by one, not eight
    or sixteen at a time: half of the time of a block that predicts windows. To the bit the same;
    over several chunks it gains nothing.
    """
    if len(k.shape) > 4:
        return ops.matmul(q, ops.swapaxes(k, -1, -2))
    wider = ops.pad(k, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return ops.matmul(q, ops.swapaxes(wider, -1, -2))[..., : k.shape[-2]]


def _write(k, v, i, f, segments):
    """Returns C, n, m of a chunk that begins empty, and the logarithm of what it leaves, a pair.

    The weights are taken from m as it was rounded: an error in m alone is no error of C exp(m).
    """
    (whole, rest), forgotten, middle = _gates(i, f)
    seen = _seen(segments, i.shape[-1], 1)[..., 0, :]  # (..., length)
    empty = ops.cast(EMPTY, whole.dtype)
    largest = ops.max(ops.where(seen, whole + rest, empty), axis=-1, keepdims=True)
    last, last_rest = (x[..., -1:] for x in forgotten)
    m = last + largest + last_rest
    logs = ops.where(seen, whole + last - m + (rest + last_rest), empty)
    written = k * (ops.exp(logs) / math.sqrt(k.shape[-1]))[..., None]
    c = ops.matmul(ops.swapaxes(written, -1, -2), v)
    left, left_rest = (last + middle[0])[..., 0], (last_rest + middle[1])[..., 0]
    if segments is not None:
        left = ops.where(segments[..., -1] == 0, left, empty)
    return [c, ops.sum(written, axis=-2), m[..., 0]], (left, left_rest)


def _advance(state, written, left):
    """Returns C, n, m after a chunk that wrote and left so much."""
    c, n, m = state
    c_written, n_written, m_written = written
    m_new = ops.maximum(m + left[0] + left[1], m_written)
    old = ops.exp(m + left[0] - m_new + left[1])[..., None]
    new = ops.exp(m_written - m_new)[..., None]
    c = old[..., None] * c + new[..., None] * c_written
    return [c, old * n + new * n_written, m_new]


def _states(state, written, left):
    """Returns C, n, m before each of many chunks, (chunks, ...), and after the last."""
    c, n, m = state
    c_written, n_written, m_written = written

    def step(m, parts):
        return [ops.maximum(m[0] + parts[0] + parts[1], parts[2])], m

    (m_last,), (m,) = scan(step, [m], [*left, m_written], [m])
    m_new = ops.concatenate([m[1:], m_last[None]])
    logs = m + left[0] - m_new + left[1], m_written - m_new
    old, new = (ops.exp(x)[..., None, None] for x in logs)
    both = ops.concatenate([c_written, n_written[..., None]], axis=-1)
    both, last = weighted_sums(old, new * both, ops.concatenate([c, n[..., None]], axis=-1))
    return [both[..., :-1], both[..., -1], m], [last[..., :-1], last[..., -1], m_last]


def _gates(i, f):
    """Returns a_s and F_t, both counted from the middle of the chunk, and F there, as pairs."""
    length = f.shape[-1]
    # F_t as a product: XLA's cumulative sum and its gradient cost a third of the whole cell.
    upper = ops.convert_to_tensor(np.triu(np.ones((length, length))), f.dtype)
    forgotten = [ops.matmul(part, upper) for part in _split(ops.log_sigmoid(f))]
    # Counted from the middle of the chunk, F is half as large and its rest twice as precise.
    middle = [x[..., length // 2 : length // 2 + 1] for x in forgotten]
    forgotten = [x - y for x, y in zip(forgotten, middle, strict=True)]
    a = [x - y for x, y in zip(_split(i), forgotten, strict=True)]
    return a, forgotten, middle


def _split(x):
    """Returns the nearest whole numbers, constants in the gradient, and the rest of x."""
    whole = ops.stop_gradient(ops.round(x))
    return whole, x - whole


def _seen(segments, length: int, wanted: int):
    """Returns whether step s is seen from the last `wanted` steps, (..., wanted, length)."""
    seen = ops.convert_to_tensor(np.tril(np.ones((length, length), bool))[-wanted:])
    if segments is not None:
        seen = seen & (segments[..., -wanted:, None] == segments[..., None, :])
    return seen


def _running_max(a):
    """Returns the largest of a_1 .. a_t for each t, (..., time), in log2(time) steps."""
    step = 1
    while step < a.shape[-1]:
        before = [(0, 0)] * (len(a.shape) - 1) + [(step, 0)]
        a = ops.maximum(a, ops.pad(a[..., :-step], before, constant_values=2 * EMPTY))
        step *= 2
    return a


def empty_state(first, second, head_dim: int, dtype):
    """Returns an empty memory C, n, m; its first two axes are batch and heads in any order."""
    return [
        ops.zeros((first, second, head_dim, head_dim), dtype),
        ops.zeros((first, second, head_dim), dtype),
        ops.full((first, second), EMPTY, dtype),
    ]
