import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdline.data.augmentation import augment
from sgdline.seeds import generator


def augment_one_by_one(images, *, crop_padding, flip, fill, draws):
    """Crop and flip image by image, pixel by pixel where the padding is met."""
    count, _, height, width = images.shape
    tops, lefts = torch.zeros(2, count, dtype=torch.int64)
    if crop_padding:
        tops, lefts = torch.randint(0, 2 * crop_padding + 1, (2, count, 1), generator=draws).squeeze(2)
    flips = torch.randint(0, 2, (count, 1, 1, 1), generator=draws).flatten() if flip else torch.zeros(count)
    result = torch.empty_like(images)
    for image in range(count):
        for row in range(height):
            for column in range(width):
                source_row = int(tops[image]) + row - crop_padding
                source_column = int(lefts[image]) + (width - 1 - column if flips[image] else column) - crop_padding
                inside = 0 <= source_row < height and 0 <= source_column < width
                value = images[image, :, source_row, source_column] if inside else fill
                result[image, :, row, column] = value
    return result


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop_padding", [0, 1, 3, 9])
@pytest.mark.parametrize("shape", [(7, 3, 6, 5), (4, 1, 8, 8), (1, 2, 3, 4)])
def test_agrees_with_a_loop_over_pixels(shape, crop_padding, flip):
    images = torch.randn(shape, generator=generator(0, "images"))
    fill = torch.arange(shape[1]) - 3.5
    options = {"crop_padding": crop_padding, "flip": flip, "fill": fill}
    before = images.clone()
    result = augment(images, **options, generator=generator(4, "augmentation", 2))
    expected = augment_one_by_one(images, **options, draws=generator(4, "augmentation", 2))
    assert torch.equal(result, expected)
    assert torch.equal(images, before)


@given(st.integers(0, 4), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_equals_crop_then_normalise(crop_padding, flip, seed):
    raw = torch.randint(0, 256, (9, 3, 8, 8), generator=generator(seed, "raw")).double() / 255
    mean = torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64)
    std = torch.tensor([0.2023, 0.1994, 0.2010], dtype=torch.float64)

    def normalise(images):
        return (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)

    options = {"crop_padding": crop_padding, "flip": flip}
    black = torch.zeros(3, dtype=torch.float64)
    after = augment(normalise(raw), **options, fill=(black - mean) / std, generator=generator(seed, "augmentation"))
    before = normalise(augment(raw, **options, fill=black, generator=generator(seed, "augmentation")))
    assert torch.equal(after, before)


def test_nothing_switched_on_returns_the_input_and_draws_nothing():
    images = torch.randn(3, 1, 4, 4)
    draws = generator(0, "augmentation")
    state = draws.get_state()
    assert augment(images, crop_padding=0, flip=False, fill=torch.zeros(1), generator=draws) is images
    assert torch.equal(draws.get_state(), state)


def test_offsets_and_flips_are_uniform():
    # One bright pixel in the middle tells the offset; a dim one beside it tells the flip.
    images = torch.zeros(6000, 1, 5, 5)
    images[:, 0, 2, 2], images[:, 0, 2, 3] = 2.0, 1.0
    moved = augment(images, crop_padding=1, flip=True, fill=torch.zeros(1), generator=generator(1, "augmentation"))
    bright = (moved[:, 0] == 2.0).flatten(1).int().argmax(1)
    dim = (moved[:, 0] == 1.0).flatten(1).int().argmax(1)
    counts = torch.bincount(bright, minlength=25).reshape(5, 5)[1:4, 1:4]
    assert int(counts.sum()) == 6000
    # 6000 / 9 = 667 with a standard deviation of 24; half of 6000 with one of 39.
    assert (counts - 667).abs().max() < 120
    assert abs(int((dim < bright).sum()) - 3000) < 190


def test_wrong_padding_is_refused():
    images = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="crop_padding must be 0 or above, got -1"):
        augment(images, crop_padding=-1, flip=False, fill=torch.zeros(3), generator=torch.Generator())
    with pytest.raises(ValueError, match="one value for each of 3 channels"):
        augment(images, crop_padding=1, flip=False, fill=torch.zeros(1), generator=torch.Generator())
