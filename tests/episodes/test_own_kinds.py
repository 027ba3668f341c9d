"""Users' data of every kind: read as the same data, or refused in one sentence."""

import decimal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from support import assert_is_one_sentence, seeded

from episodes import from_dataset, from_tensors
from metaplast.base.errors import UserError
from metaplast.tasks.request import EpisodeRequest, StreamRequest

REQUEST = EpisodeRequest(ways=2, shots=2, queries=1, held_out="images")
# Halves and quarters, which every floating-point type holds exactly.
IMAGES = (torch.arange(32 * 6).view(32, 6) % 5) / 4
LABELS = torch.arange(4).repeat(8)
TABLE = IMAGES.numpy()


def drawn(source):
    batch = source.split(REQUEST).train.sample(9, seeded())
    return torch.cat([batch.support_x, batch.query_x], 1), batch.support_y


EXPECTED = drawn(from_tensors(IMAGES, LABELS))


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def quietly(make):
    """Call `make` without torch's warnings about layouts that it considers experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


INPUTS = {
    "list": TABLE.tolist(),
    "tuple of rows": tuple(map(tuple, TABLE.tolist())),
    "list of tensors": list(IMAGES),
    "list of arrays": list(TABLE),
    "requires grad": IMAGES.clone().requires_grad_(),
    "grad history": IMAGES.clone().requires_grad_() * 1,
    "a parameter": torch.nn.Parameter(IMAGES.clone()),
    "sparse": IMAGES.to_sparse(),
    "sparse csr": quietly(IMAGES.to_sparse_csr),
    "not contiguous": IMAGES.T.contiguous().T,
    "float16": IMAGES.half(),
    "bfloat16": IMAGES.bfloat16(),
    "float64": IMAGES.double(),
    "images": IMAGES.view(32, 2, 3),
    "channels": IMAGES.view(32, 1, 2, 3),
    "array float16": TABLE.astype(np.float16),
    "long double": TABLE.astype(np.longdouble),
    "big endian": TABLE.astype(">f8"),
    "Fortran order": np.asfortranarray(TABLE),
    "reversed twice": TABLE[::-1].copy()[::-1],
    "read-only": read_only(TABLE),
    "objects": TABLE.astype(object),
    "array of rows": pd.Series(list(TABLE)).to_numpy(),
    "nothing masked": np.ma.MaskedArray(TABLE),
    "data frame": pd.DataFrame(TABLE),
    "nullable data frame": pd.DataFrame(TABLE).convert_dtypes(),
    "mixed data frame": pd.DataFrame(TABLE).astype({0: object, 1: "Float64", 2: "float32"}),
    "scipy sparse": sparse.csr_matrix(TABLE),
}


@pytest.mark.parametrize("images", INPUTS.values(), ids=INPUTS.keys())
def test_inputs_of_every_kind_are_the_same_data(images):
    got = drawn(from_tensors(images, LABELS))
    for one, other in zip(got, EXPECTED, strict=True):
        assert torch.equal(one, other)


INDEX = LABELS.numpy()
LABELLED = {
    "list": INDEX.tolist(),
    "list of tensors": list(LABELS),
    "uint8": LABELS.to(torch.uint8),
    "int16": LABELS.short(),
    "unsigned array": INDEX.astype(np.uint64),
    "unsigned 16": INDEX.astype(np.uint16),
    "big endian": INDEX.astype(">i4"),
    "objects": INDEX.astype(object),
    "NumPy objects": np.array([np.int8(label) for label in INDEX], dtype=object),
    "series": pd.Series(INDEX),
    "nullable series": pd.Series(INDEX, dtype="Int64"),
    "categories": pd.Series(INDEX).astype("category"),
    "text": np.array(list("abcd") * 8),
    "text list": ["one a", "one b", "two", "zzz"] * 8,
    "text series": pd.Series(list("abcd") * 8),
    "text categories": pd.Series(list("abcd") * 8, dtype="category"),
    "text objects": np.array(list("abcd") * 8, dtype=object),
    "bytes": np.array(list("abcd") * 8, dtype="S"),
    "large": INDEX.astype(object) + 2**62,
    "sparse": LABELS.to_sparse(),
}


@pytest.mark.parametrize("labels", LABELLED.values(), ids=LABELLED.keys())
def test_labels_of_every_kind_are_the_same_classes(labels):
    assert torch.equal(drawn(from_tensors(IMAGES, labels))[1], EXPECTED[1])


HELD_OUT = {
    "list": [1, 3],
    "tuple": (3, 1),
    "set": {1, 3},
    "frozenset": frozenset({1, 3}),
    "range": range(1, 4, 2),
    "tensor": torch.tensor([1, 3]),
    "array": np.array([3, 1], dtype=np.uint8),
    "list of NumPy numbers": [np.int64(1), np.int32(3)],
    "list of tensors": [torch.tensor(1), torch.tensor(3)],
    "series": pd.Series([1, 3]),
    "repeats": [1, 1, 3],
    "keys": {1: "a", 3: "b"}.keys(),
}


@pytest.mark.parametrize("chosen", HELD_OUT.values(), ids=HELD_OUT.keys())
def test_held_out_classes_of_every_kind(chosen):
    split = from_tensors(IMAGES, LABELS, held_out_classes=chosen).split(EpisodeRequest(
        ways=2, shots=2, queries=1))  # fmt: skip
    assert split.test.classes.tolist() == [1, 3]


@pytest.mark.parametrize("one", [2, np.int64(2), torch.tensor(2), torch.tensor([2]), np.array(2)])
def test_one_held_out_class_may_be_a_number(one):
    source = from_tensors(IMAGES, LABELS, held_out_classes=one)
    with pytest.raises(UserError, match="meta-training would have 3 and the test 1"):
        source.split(EpisodeRequest(ways=2, shots=2, queries=1))


def test_held_out_classes_of_text_are_named():
    source = from_tensors(IMAGES, list("abcd") * 8, held_out_classes={"b", "d"})
    assert source.split(EpisodeRequest(ways=2, shots=2, queries=1)).test.classes.tolist() == [1, 3]
    with pytest.raises(UserError, match=r"got \['e'\]; choose among a … d"):
        from_tensors(IMAGES, list("abcd") * 8, held_out_classes="e")


@pytest.mark.parametrize("chosen", [[9], [True], [[1, 2]], [None], "1", [1.5], [float("nan")]])
def test_held_out_classes_that_do_not_occur_are_refused(chosen):
    with pytest.raises(UserError, match="held_out_classes must be labels in the data") as caught:
        from_tensors(IMAGES, LABELS, held_out_classes=chosen)
    assert_is_one_sentence(caught.value)


def masked(array, row):
    mask = np.zeros(array.shape, bool)
    mask[row] = True
    return np.ma.MaskedArray(array, mask)


BAD = {
    "masked": (masked(TABLE, 3), LABELS, "got a masked value at index 3"),
    "masked labels": (IMAGES, masked(INDEX, 5), "labels must not be masked.*index 5"),
    "complex": (IMAGES + 0j, LABELS, "real numbers.*complex64"),
    "complex array": (TABLE + 0j, LABELS, "real numbers.*complex64"),
    "meta": (IMAGES.to("meta"), LABELS, "on meta"),
    "text": (np.full((32, 2), "a"), LABELS, "real numbers, got <U1"),
    "text column": (pd.DataFrame(TABLE).assign(a="x"), LABELS, "got 'x' at index 0"),
    "dates": (pd.DataFrame({"a": pd.date_range("2020", periods=32)}), LABELS, "real numbers"),
    "missing": (pd.DataFrame(TABLE).convert_dtypes().mask(TABLE > 0.9), LABELS, "<NA> at index"),
    "nan in a frame": (pd.DataFrame(TABLE).replace(1.0, np.nan), LABELS, "first at index 0"),
    "inf": (np.where(TABLE == 1, np.inf, TABLE), LABELS, "index 0"),
    "None": (None, LABELS, "images must be a tensor or an array of numbers, got NoneType"),
    "a number": (3.0, LABELS, "got shapes"),
    "a function": (len, LABELS, "got builtin_function_or_method"),
    "ragged": ([[1.0, 2.0], [3.0]], LABELS, "images must be a tensor or an array"),
    "ragged objects": (np.array([np.ones(2), np.ones(3)], dtype=object), [0, 1], "one shape"),
    "decimals": ([[decimal.Decimal(1)] * 2] * 32, LABELS, "images must be numbers"),
    "a series": (pd.Series(TABLE[:, 0]), LABELS, r"got shapes \(32,\)"),
    "empty": (TABLE[:0], INDEX[:0], "as many labels"),
    "empty lists": ([], [], "as many labels"),
    "no pixels": (TABLE[:, :0], LABELS, "as many labels"),
    "fewer labels": (IMAGES, LABELS[:-1], r"and \(31,\)"),
    "one-hot": (IMAGES, torch.eye(4)[LABELS].long(), r"and \(32, 4\)"),
    "one label": (IMAGES, 1, r"and \(\)"),
    "bool labels": (IMAGES, LABELS > 1, "labels must be integers, got torch.bool"),
    "float cubes": (IMAGES, LABELS.view(32, 1, 1) / 2, r"or \[image, output\], got shapes"),
    "an infinite number": (IMAGES, np.where(INDEX == 1, np.inf, 0.5), "infinite at index 1"),
    "a missing number": (IMAGES, torch.where(LABELS == 2, torch.nan, 0.5), "NaN.* at index 2"),
    "a missing float object": (
        IMAGES,
        np.array([0.5] * 31 + [None], dtype=object),
        "got None at index 31",
    ),
    "a missing label": (
        IMAGES,
        pd.Series([None, *INDEX[1:]], dtype="Int64"),
        r"missing \(NaN\) at index 0",
    ),
    "a missing object": (IMAGES, [*INDEX[1:], None], "got None at index 31"),
    "a missing text": (IMAGES, pd.Series([*"abcd" * 7, "a", "b", "c", None]), "index 31|'a' at"),
    "None among text": (IMAGES, [*"abcd" * 7, "a", "b", "c", None], "None at index 31|'a' at"),
    "mixed labels": (IMAGES, np.array([*"abc", 3] * 8, dtype=object), "integers, or all text"),
    "huge": (IMAGES, np.full(32, 2**63, np.uint64), "below 2\\^63"),
    "dates as labels": (IMAGES, pd.date_range("2020", periods=32), "labels must be integers"),
}


@pytest.mark.parametrize(("images", "labels", "sentence"), BAD.values(), ids=BAD.keys())
def test_what_is_no_labelled_data_is_refused_in_one_sentence(images, labels, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        from_tensors(images, labels, name="mine")
    assert_is_one_sentence(caught.value)


class Unreadable:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise KeyError(index)


ODD = {
    "no length": (iter([1]), "must have a length"),
    "a loader": (torch.utils.data.DataLoader([(torch.ones(2), 0)]), "map-style data set"),
    "a frame": (pd.DataFrame({"a": [1.0]}), r"mine\[0\] cannot be read \(KeyError"),
    "unreadable": (Unreadable(), r"mine\[0\] cannot be read"),
    "a dictionary item": ([{"image": 1, "label": 0}], "must be a pair.*got dict"),
    "None": ([(None, 0)], r"mine\[0\]: images must be a tensor"),
    "no label": ([(torch.ones(2), None)], r"mine\[0\]: labels must be"),
    "kinds of labels": ([(torch.ones(2), 0), (torch.ones(2), "a")], "got both"),
}


@pytest.mark.parametrize(("dataset", "sentence"), ODD.values(), ids=ODD.keys())
def test_odd_datasets_are_refused_in_one_sentence(dataset, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        from_dataset(dataset, name="mine")
    assert_is_one_sentence(caught.value)


def test_a_dataset_may_have_text_and_gradients():
    pairs = [(image.clone().requires_grad_(), "abcd"[label]) for image, label in
             zip(IMAGES, LABELS, strict=True)]  # fmt: skip
    assert torch.equal(drawn(from_dataset(pairs))[1], EXPECTED[1])


@pytest.mark.parametrize("kind", [torch.Tensor.clone, lambda x: x.clone().numpy()])
def test_data_are_copied(kind):
    images, labels = kind(IMAGES), kind(LABELS)
    source = from_tensors(images, labels)
    images[:], labels[:] = 7, 0
    for one, other in zip(drawn(source), EXPECTED, strict=True):
        assert torch.equal(one, other)


def test_row_names_that_differ_are_warned_of():
    frame, series = pd.DataFrame(TABLE), pd.Series(INDEX)
    from_tensors(frame.iloc[::-1], series.iloc[::-1])
    with pytest.warns(UserWarning, match="matched by position"):
        from_tensors(frame.iloc[::-1], series)


# --- the range of the inputs ---

FAR = {
    "digits as they come": (IMAGES * 16, "images are from 0 to 16, far from the range 0 to 1"),
    "measurements": (IMAGES * 300 + 900, "from 900 to 1200"),
    "below zero": (IMAGES * -40, "from -40 to 0"),
    "far too small": (IMAGES / 255, "from 0 to 0.003922"),
    "dark bytes": ((IMAGES * 16).byte(), "bytes up to 16 and are divided by 255"),
}


@pytest.mark.parametrize(("images", "sentence"), FAR.values(), ids=FAR.keys())
def test_inputs_far_from_0_to_1_are_warned_of_once(images, sentence):
    with pytest.warns(UserWarning, match=sentence) as caught:
        source = from_tensors(images, LABELS)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "scale='unit'" in str(caught[0].message)
    # Drawing from it does not warn again.
    assert source.split(REQUEST).train.range_is_known
    assert source.stream(StreamRequest()).final.range_is_known


@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES * 2 - 1, torch.randn(32, 6, generator=seeded()), (IMAGES * 200).byte(),
     IMAGES > 0.5, (IMAGES > 0.5).int(), IMAGES * 16 / 16],
    ids=["0 to 1", "-1 to 1", "standardised", "bytes", "bool", "0 and 1", "floats"],
)  # fmt: skip
def test_usual_inputs_are_not_warned_of(images):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        source = from_tensors(images, LABELS)
        source.split(REQUEST).train.sample(2, seeded())
    assert [str(each.message) for each in warned] == []


@pytest.mark.parametrize("images", [IMAGES * 16, IMAGES * 300 + 900, (IMAGES * 16).byte(),
                                    (IMAGES * 16).int()])  # fmt: skip
def test_scaling_of_one_range_gives_the_images(images):
    got = drawn(from_tensors(images, LABELS, scale="unit"))
    torch.testing.assert_close(got[0], EXPECTED[0])


def test_no_scaling_takes_numbers_as_they_are():
    for images in (IMAGES * 16, (IMAGES * 16).byte(), (IMAGES * 16).int()):
        got = drawn(from_tensors(images, LABELS, scale="none"))
        assert torch.equal(got[0], EXPECTED[0] * 16)


def measurements():
    """Return inputs of different sizes, one of which never varies."""
    table = torch.randn(240, 3, generator=seeded()) * torch.tensor([1.0, 50.0, 0.0]) + 1000
    return table, torch.arange(240) % 3


@pytest.mark.parametrize("scale", ["unit", "columns", "standard"])
@pytest.mark.parametrize("held_out", ["images", "classes"])
def test_scaling_looks_at_meta_training_only(scale, held_out):
    table, labels = measurements()
    request = EpisodeRequest(ways=2, shots=2, queries=1, held_out=held_out)
    if held_out == "classes":
        labels = labels + 3 * (torch.arange(240) >= 120)
    split = from_tensors(table, labels, scale=scale).split(request)
    seen = split.train.pool.images[split.train.members].double()
    if scale == "unit":
        assert (float(seen.min()), float(seen.max())) == (0, 1)
    elif scale == "columns":
        assert torch.equal(seen.amin(0), torch.zeros(3, dtype=torch.float64))
        assert torch.equal(seen.amax(0), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    else:
        torch.testing.assert_close(seen.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
        expected = torch.tensor([1.0, 1.0, 0.0]).double()
        torch.testing.assert_close(seen.std(0, correction=0), expected)
    # Changes of held-out samples have no effect.
    changed = table.clone()
    changed[split.test.members] = 5e4
    again = from_tensors(changed, labels, scale=scale).split(request)
    assert torch.equal(again.train.sample(5, seeded()).support_x,
                       split.train.sample(5, seeded()).support_x)  # fmt: skip


@pytest.mark.parametrize("scale", ["unit", "columns", "standard"])
def test_a_stream_is_scaled_by_what_rates_are_found_with(scale):
    table, labels = measurements()
    first = from_tensors(table, labels, scale=scale).stream(StreamRequest())
    changed = table.clone()
    for held_out in (first.final.train, first.final.test, first.tuning.test):
        changed[held_out] = 5e4
    second = from_tensors(changed, labels, scale=scale).stream(StreamRequest())
    draws = [stream.tuning.sample(9, 1, seeded()).support_x for stream in (first, second)]
    assert torch.equal(*draws)
    assert scale in first.description


@pytest.mark.parametrize("scale", ["minmax", None, 16, True])
def test_an_unknown_scaling_is_refused(scale):
    with pytest.raises(UserError, match="scale must be auto or none or unit") as caught:
        from_tensors(IMAGES, LABELS, scale=scale)
    assert_is_one_sentence(caught.value)
