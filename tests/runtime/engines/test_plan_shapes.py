import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.errors import BackendError
from propetl.runtime.engine_records import Profile
from propetl.runtime.engines.plan_shapes import buffer_bytes, filled_feeds, fit_profile, sizes_of
from propetl.runtime.manifest import TensorSignature

SINGLE = Profile({"batch": (1, 1, 1), "sequence": (1, 64, 512)})
MANY = Profile({"batch": (2, 16, 32), "sequence": (16, 128, 512)})
BOTH = (SINGLE, MANY)


@pytest.mark.parametrize(
    ("batch", "sequence", "profile", "fitted"),
    [
        (1, 5, 0, (1, 5)),
        (1, 512, 0, (1, 512)),
        (8, 64, 1, (8, 64)),
        (2, 3, 1, (2, 16)),  # filled up: the only one that takes two rows starts at 16 tokens
    ],
)
def test_profiles(batch, sequence, profile, fitted):
    fit = fit_profile(BOTH, {"batch": batch, "sequence": sequence}, "x.plan")
    assert (fit.profile, tuple(fit.sizes.values())) == (profile, fitted)


def test_of_several_that_hold_a_batch_the_one_tuned_nearest():
    short = Profile({"batch": (1, 8, 32), "sequence": (1, 16, 512)})
    long = Profile({"batch": (1, 8, 32), "sequence": (1, 256, 512)})
    assert [fit_profile((short, long), {"batch": 8, "sequence": n}, "x").profile for n in (8, 60, 70, 512)] == [
        0,
        0,
        1,
        1,
    ]


def test_the_smallest_filling_is_taken():
    wide = Profile({"batch": (16, 16, 32), "sequence": (1, 64, 64)})
    long = Profile({"batch": (1, 1, 8), "sequence": (128, 128, 512)})
    assert fit_profile((wide, long), {"batch": 4, "sequence": 60}, "x").sizes == {"batch": 4, "sequence": 128}
    assert fit_profile((wide, long), {"batch": 14, "sequence": 60}, "x").sizes == {"batch": 16, "sequence": 60}


@pytest.mark.parametrize(("batch", "sequence"), [(33, 16), (1, 513), (64, 600)])
def test_a_batch_that_no_profile_takes(batch, sequence):
    with pytest.raises(BackendError) as caught:
        fit_profile(BOTH, {"batch": batch, "sequence": sequence}, "engines/bank.plan")
    message = str(caught.value)
    assert f"engines/bank.plan: batch {batch}, sequence {sequence} is outside all its profiles" in message
    assert "batch 1/1/1, sequence 1/64/512; batch 2/16/32, sequence 16/128/512" in message
    assert "propetl build it again with another --profile" in message


def test_labels_are_weights_and_are_not_filled_up():
    profile = Profile({"batch": (1, 1, 8), "sequence": (1, 8, 16), "labels": (2, 3, 8)})
    sizes = {"batch": 1, "sequence": 4}
    assert fit_profile((profile,), sizes | {"labels": 8}, "x").sizes["labels"] == 8
    for labels in (1, 9):
        with pytest.raises(BackendError, match=f"labels {labels} is outside"):
            fit_profile((profile,), sizes | {"labels": labels}, "x")


@given(
    batch=st.integers(1, 40),
    sequence=st.integers(1, 600),
    smallest=st.tuples(st.integers(1, 8), st.integers(1, 64)),
    room=st.tuples(st.integers(0, 32), st.integers(0, 500)),
)
def test_what_fits_is_within_the_profile_and_holds_the_batch(batch, sequence, smallest, room):
    sizes = {
        name: (low, low, low + more) for name, low, more in zip(("batch", "sequence"), smallest, room, strict=True)
    }
    asked = {"batch": batch, "sequence": sequence}
    try:
        fit = fit_profile((Profile(sizes),), asked, "x")
    except BackendError:
        assert any(asked[name] > sizes[name][2] for name in asked)
    else:
        assert Profile(sizes).holds(**fit.sizes)
        assert all(fit.sizes[name] == max(asked[name], sizes[name][0]) for name in asked)


def test_rows_and_tokens_are_filled_up():
    feeds = {
        "input_ids": np.array([[5, 6], [7, 8]]),
        "attention_mask": np.ones((2, 2), dtype=np.int64),
        "task_id": np.array([3, 4]),
    }
    filled = filled_feeds(feeds, {"batch": 3, "sequence": 4}, pad_token_id=9)
    assert filled["input_ids"].tolist() == [[5, 6, 9, 9], [7, 8, 9, 9], [5, 6, 9, 9]]
    assert filled["attention_mask"].tolist() == [[1, 1, 0, 0]] * 3
    assert filled["task_id"].tolist() == [3, 4, 3]
    assert filled_feeds(feeds, {"batch": 2, "sequence": 2}, 9)["input_ids"] is feeds["input_ids"]


def test_sizes_go_by_name():
    inputs = (
        TensorSignature("input_ids", "int64", ("batch", "sequence")),
        TensorSignature("mask.x", "uint8", (4, 2)),
        TensorSignature("head.weight", "float32", ("labels", 12)),
    )
    shapes = {"input_ids": (2, 7), "mask.x": (4, 2), "head.weight": (3, 12)}
    assert sizes_of(inputs, shapes) == {"batch": 2, "sequence": 7, "labels": 3}


@given(st.lists(st.integers(1, 1 << 24), min_size=1, max_size=60))
def test_a_buffer_holds_what_is_asked_and_is_seldom_made_anew(sizes):
    held, made = 0, 0
    for size in sizes:
        wanted = buffer_bytes(size, held)
        assert wanted >= max(size, held) and wanted <= max(held, 4096, 2 * size)
        made += wanted != held
        held = wanted
    assert made <= 14
