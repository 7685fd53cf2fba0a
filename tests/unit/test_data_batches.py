import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdline.data.batches import BatchOrder
from sgdline.errors import SgdlineError

SIZES = st.integers(1, 60).flatmap(lambda samples: st.tuples(st.just(samples), st.integers(1, samples)))


@given(SIZES, st.integers(0, 1000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_image_comes_once_per_epoch(sizes, seed, drop_last):
    samples, batch_size = sizes
    order = BatchOrder(samples, batch_size=batch_size, seed=seed, drop_last=drop_last)
    for epoch in (0, 3):
        first = epoch * order.updates_per_epoch
        batches = [order.indices(first + position) for position in range(order.updates_per_epoch)]
        seen = torch.cat(batches)
        assert seen.dtype == torch.int64
        assert len(seen.unique()) == len(seen)
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        if drop_last:
            assert len(seen) == samples // batch_size * batch_size
        else:
            assert seen.sort().values.tolist() == list(range(samples))
            assert len(batches[-1]) == (samples % batch_size or batch_size)


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_order_depends_on_seed_and_update_only(drop_last):
    forward = BatchOrder(103, batch_size=10, seed=5, drop_last=drop_last)
    backward = BatchOrder(103, batch_size=10, seed=5, drop_last=drop_last)
    steps = range(3 * forward.updates_per_epoch)
    expected = [forward.indices(step) for step in steps]
    for step in reversed(steps):
        assert torch.equal(backward.indices(step), expected[step])
    other = BatchOrder(103, batch_size=10, seed=6, drop_last=drop_last)
    assert not torch.equal(other.indices(0), expected[0])
    assert not torch.equal(expected[forward.updates_per_epoch], expected[0])


def test_dropping_the_last_batch_keeps_the_others():
    whole = BatchOrder(103, batch_size=10, seed=5, drop_last=False)
    dropped = BatchOrder(103, batch_size=10, seed=5, drop_last=True)
    assert (whole.updates_per_epoch, dropped.updates_per_epoch) == (11, 10)
    for epoch in range(3):
        for position in range(10):
            left = whole.indices(epoch * 11 + position)
            assert torch.equal(left, dropped.indices(epoch * 10 + position))


@given(SIZES, st.booleans(), st.integers(0, 300))
@settings(deadline=None)
def test_epochs_count_the_images_seen(sizes, drop_last, step):
    samples, batch_size = sizes
    order = BatchOrder(samples, batch_size=batch_size, seed=0, drop_last=drop_last)
    seen = sum(len(order.indices(earlier)) for earlier in range(step))
    per_epoch = sum(len(order.indices(position)) for position in range(order.updates_per_epoch))
    assert order.epoch(step) == pytest.approx(seen / per_epoch, abs=1e-12)
    assert order.epoch(step * order.updates_per_epoch) == step


def test_writing_into_a_batch_leaves_the_order_alone():
    order = BatchOrder(20, batch_size=5, seed=1, drop_last=True)
    before = order.indices(1)
    order.indices(1).zero_()
    assert torch.equal(order.indices(1), before)


@pytest.mark.parametrize("batch_size", [0, 21])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(SgdlineError, match=f"batch_size must be from 1 to the 20 training images, got {batch_size}"):
        BatchOrder(20, batch_size=batch_size, seed=0, drop_last=False)


def test_a_negative_update_is_refused():
    order = BatchOrder(20, batch_size=5, seed=1, drop_last=True)
    for method in (order.indices, order.epoch):
        with pytest.raises(ValueError, match="step must be"):
            method(-1)
