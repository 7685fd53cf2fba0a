import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgdline.seeds import derive_seed, generator

WORDS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, "batch_order"), 3728616945255031879),
        ((1, "batch_order", 7), 6845122923645424302),
        ((42, "split"), 1976974717834220323),
        ((2**40, "augmentation", 10_000), 1821014900559140406),
    ],
)
def test_seeds_keep_their_values(arguments, expected):
    assert derive_seed(*arguments) == expected


@given(WORDS, st.text(), WORDS)
def test_a_seed_is_a_63_bit_number(seed, purpose, index):
    value = derive_seed(seed, purpose, index)
    assert 0 <= value < 2**63
    assert value == derive_seed(seed, purpose, index)


def test_seed_purpose_and_index_each_matter():
    triples = [
        (seed, purpose, index)
        # 2**32 and 1 would meet if parts were joined without fixed widths.
        for seed in (0, 1, 2**32, 2**32 + 1)
        for purpose in ("", "split", "batch_order", "augmentation")
        for index in (0, 1, 2**32)
    ]
    assert len({derive_seed(*triple) for triple in triples}) == len(triples)


def test_another_process_derives_the_same_seed_without_torch():
    code = (
        "import sys; from sgdline.seeds import derive_seed; "
        "print(derive_seed(3, 'x', 5)); assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) == derive_seed(3, "x", 5)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (2**64, 0)])
def test_seeds_outside_64_bits_are_refused(seed, index):
    with pytest.raises(ValueError, match="must be from 0"):
        derive_seed(seed, "split", index)


def test_generators_are_fresh_and_leave_the_global_state_alone():
    before = torch.random.get_rng_state()
    first, second = generator(1, "noise", 2), generator(1, "noise", 2)
    values = torch.rand(5, generator=first)
    assert torch.equal(values, torch.rand(5, generator=second))
    assert not torch.equal(values, torch.rand(5, generator=generator(1, "noise", 3)))
    assert torch.equal(before, torch.random.get_rng_state())
