import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from data.batches.augment import augment_sequences_batched, shift_ends

ALL = {"noise_std": 0.1, "mask_prob": 1.0, "mask_max_t": 3}


def windows(batch=6, time=8, features=3, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, time, features)).astype("float32")


@pytest.mark.parametrize(
    "off", [{}, {"noise_std": 0.0, "mask_prob": 1.0}, {"mask_prob": 0.0, "mask_max_t": 4}]
)
def test_off_returns_the_identical_array(off):
    x = windows()
    assert augment_sequences_batched(x, np.random.default_rng(0), **off) is x


def test_the_input_is_never_modified():
    x = windows()
    before = x.copy()
    out = augment_sequences_batched(x, np.random.default_rng(0), **ALL)
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(out, x)
    assert out.dtype == np.float32 and out.shape == x.shape


@pytest.mark.parametrize("options", [ALL, ALL | {"noise_std": 0.0}])
def test_a_given_output_gets_the_same_windows(options):
    expected = augment_sequences_batched(windows(), np.random.default_rng(0), **options)
    same = windows()
    for x, out in [(windows(), np.empty_like(same)), (same, same)]:
        made = augment_sequences_batched(x, np.random.default_rng(0), out=out, **options)
        assert made is out
        np.testing.assert_array_equal(out, expected)


def test_the_same_generator_gives_the_same_batch():
    first, second = (
        augment_sequences_batched(windows(), np.random.default_rng(3), **ALL) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_noise_has_the_standard_deviation_of_each_feature():
    x = np.zeros((64, 50, 3), "float32")
    std = np.array([1.0, 10.0, 0.0])
    rng = np.random.default_rng(0)
    out = augment_sequences_batched(x, rng, noise_std=0.5, feature_std=std)
    # 3200 draws: the deviation of a sample's is std / sqrt(6400).
    np.testing.assert_allclose(out.std(axis=(0, 1)), 0.5 * std, rtol=5 / np.sqrt(6400))
    np.testing.assert_allclose(out.mean(axis=(0, 1)), 0.0, atol=5 * 5 / np.sqrt(3200))


def test_noise_is_gaussian():
    x = np.zeros((1000, 50, 4), "float32")  # several chunks
    out = augment_sequences_batched(x, np.random.default_rng(0), noise_std=2.0)
    assert kstest(out.ravel() / 2.0, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(out.reshape(-1, 4).T) - np.eye(4)).max() < 5 / np.sqrt(50_000)


def test_small_batches_need_not_fill_whole_random_words():
    x = np.zeros((1, 3, 1), "float32")
    out = augment_sequences_batched(x, np.random.default_rng(0), noise_std=1.0)
    assert out.shape == (1, 3, 1) and len(np.unique(out)) == 3


@settings(max_examples=40, deadline=None)
@given(
    time=st.integers(2, 12), share=st.floats(0.0, 1.0), data=st.data(), seed=st.integers(0, 9999)
)
def test_a_mask_is_one_short_run_of_fill_and_never_the_last_bar(time, share, data, seed):
    longest = data.draw(st.integers(0, time - 1))
    x = windows(batch=20, time=time, seed=seed)
    fill = np.array([7.0, 8.0, 9.0], "float32")
    out = augment_sequences_batched(
        x, np.random.default_rng(seed), mask_prob=share, mask_max_t=longest, fill=fill
    )
    masked = (out == fill).all(axis=-1)
    np.testing.assert_array_equal(out[~masked], x[~masked])
    assert not masked[:, -1].any()
    assert masked.sum(axis=1).max() <= longest
    edges = np.diff(np.pad(masked.astype(int), ((0, 0), (1, 1))), axis=1)
    assert (edges == 1).sum(axis=1).max() <= 1
    if share == 1.0 and longest:
        assert masked.any(axis=1).all()


def test_masks_of_every_length_and_place_occur_in_the_stated_share():
    x = np.zeros((20_000, 5, 1), "float32")
    out = augment_sequences_batched(
        x, np.random.default_rng(0), mask_prob=0.25, mask_max_t=3, fill=np.ones(1)
    )[:, :, 0]
    lengths = out.sum(axis=1)
    # Binomial share: within five standard deviations.
    assert abs((lengths > 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000)
    assert set(lengths) == {0, 1, 2, 3}
    assert (out.sum(axis=0)[:4] > 0).all()


def test_masked_bars_carry_no_noise():
    fill = np.array([4.0, 5.0, 6.0], "float32")
    out = augment_sequences_batched(windows(), np.random.default_rng(0), fill=fill, **ALL)
    assert (out == fill).all(axis=-1).any(axis=1).all()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"noise_std": -0.1}, "at least 0 standard deviations, got -0.1"),
        ({"mask_prob": 1.5}, "must lie in 0..1, got 1.5"),
        ({"mask_max_t": 8}, "leave the last of the 8 bars, .* at most 7 .* got 8"),
    ],
)
def test_arguments_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        augment_sequences_batched(windows(), np.random.default_rng(0), **wrong)


def test_no_shift_returns_the_identical_array():
    ends = np.array([9, 10])
    assert shift_ends(ends, np.zeros(2, int), np.random.default_rng(0), 0, 4) is ends


@settings(max_examples=40, deadline=None)
@given(
    room=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    max_shift=st.integers(1, 5),
    length=st.integers(1, 6),
    seed=st.integers(0, 9999),
)
def test_a_shift_goes_back_within_the_segment_and_never_forward(room, max_shift, length, seed):
    first_rows = np.arange(len(room)) * 50
    ends = first_rows + length - 1 + np.array(room)
    before = ends.copy()
    shifted = shift_ends(ends, first_rows, np.random.default_rng(seed), max_shift, length)
    np.testing.assert_array_equal(ends, before)
    assert (shifted <= ends).all() and (shifted >= ends - max_shift).all()
    assert (shifted - length + 1 >= first_rows).all()


def test_every_shift_up_to_the_largest_occurs_equally_often():
    ends = np.full(4000, 100)
    shifted = shift_ends(ends, np.zeros(4000, int), np.random.default_rng(0), 3, 5)
    counts = np.bincount(100 - shifted, minlength=4)
    assert len(counts) == 4
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(1000))


def test_a_negative_shift_is_an_error():
    with pytest.raises(ValueError, match="at least 0 bars, got -1"):
        shift_ends(np.array([9]), np.array([0]), np.random.default_rng(0), -1, 4)
