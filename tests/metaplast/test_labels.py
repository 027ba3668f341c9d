"""A label is a whole number in range or class probabilities; everything else is refused."""

import numpy as np
import pytest
import torch
from support import assert_is_one_sentence, named, normal

from metaplast import FullyConnected, Rule, UserError
from metaplast.systems.labels import class_targets
from metaplast.systems.system import Examples

CLASSES = 3
WHOLE = {
    "int": 2,
    "numpy": np.int64(2),
    "numpy byte": np.uint8(2),
    "numpy unsigned": np.uint64(2),
    "tensor": torch.tensor(2),
    "one-element tensor": torch.tensor([[2]]),
    "unsigned tensor": torch.tensor([2], dtype=torch.uint16),
    "array": np.array([2], dtype=np.int16),
    "list": [2],
}
PROBABILITIES = {
    "list": [0.2, 0.8, 0.0],
    "array": np.float32([0.2, 0.8, 0.0]),
    "tensor": torch.tensor([0.2, 0.8, 0.0], dtype=torch.float64),
}
NONE = {
    "bool": True,
    "float": 1.0,
    "a loss": torch.tensor(1.2, requires_grad=True),
    "truth tensor": torch.tensor(True),
    "truths": [True],
    "None": None,
    "closure": lambda: 1,
    "text": "1",
    "complex": 1j,
    "negative": -1,
    "too large": 3,
    "much too large": 10**30,
    "an unsigned one too large": np.uint64(2**64 - 1),
    "two": [1, 2],
    "ragged": [[1], [1, 2]],
    "too few probabilities": torch.tensor([0.2, 0.8]),
    "off probabilities": [0.5, 0.6, 0.1],
    "a negative probability": [-0.5, 1.5, 0.0],
    "no number": [float("nan"), 0.0, 1.0],
    "sparse": torch.eye(3)[0].to_sparse(),
    "masked": np.ma.masked_array([1], [True]),
    "a set": {1},
    "objects": np.array([None]),
}
each_refused = pytest.mark.parametrize("label", NONE.values(), ids=NONE.keys())


@pytest.mark.parametrize("label", WHOLE.values(), ids=WHOLE.keys())
def test_whole_numbers_of_any_kind_are_one_class(label):
    target = class_targets(label, CLASSES)
    assert (target.dtype, target.shape, target.item()) == (torch.int64, (), 2)


@pytest.mark.parametrize("label", PROBABILITIES.values(), ids=PROBABILITIES.keys())
def test_probabilities_are_a_label(label):
    target = class_targets(label, CLASSES, dtype=torch.float64)
    torch.testing.assert_close(target, torch.tensor([0.2, 0.8, 0.0], dtype=torch.float64))


@each_refused
def test_what_is_no_label_is_refused(label):
    with pytest.raises(UserError) as caught:
        class_targets(label, CLASSES)
    assert_is_one_sentence(caught.value)


def test_several_labels_must_be_of_the_examples_shape():
    assert class_targets([0, 2], CLASSES, (2,)).tolist() == [0, 2]
    assert class_targets(torch.eye(3).long(), CLASSES, (3,)).dtype == torch.float32
    for wrong in ([0], 1, [0, 3], torch.eye(3)[:1], [[0, 1]]):
        with pytest.raises(UserError) as caught:
            class_targets(wrong, CLASSES, (2,))
        assert_is_one_sentence(caught.value)


RULE = Rule(named("error_hebbian"), ((-0.1,),), "symmetric")
WEIGHTS = [normal(CLASSES, 4)]


@each_refused
def test_a_step_refuses_what_is_no_label(label):
    with pytest.raises(UserError) as caught:
        RULE.step(WEIGHTS, normal(4), label)
    assert_is_one_sentence(caught.value)


def test_a_step_takes_probabilities_and_any_whole_number():
    x, sure = normal(4), [0.0, 0.0, 1.0]
    expected = RULE.step(WEIGHTS, x, 2).weights[0]
    for label in (np.uint8(2), torch.tensor([2]), sure, torch.tensor(sure)):
        assert torch.equal(RULE.step(WEIGHTS, x, label).weights[0], expected)
    halves = RULE.step(WEIGHTS, x, [0.5, 0.5, 0.0]).weights[0]
    mean = sum(RULE.step(WEIGHTS, x, label).weights[0] for label in (0, 1)) / 2
    torch.testing.assert_close(halves, mean)


LEARNER = RULE.learner(FullyConnected((4, CLASSES)))


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([3]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor([0, 1]), None],
    ids=["too large", "negative", "float", "too many", "None"],
)
def test_a_learner_refuses_what_is_no_label(labels):
    state, x = LEARNER.draw(1, torch.Generator()), torch.ones(1, 4)
    theta = RULE.tensor().expand(1, 1, 1)
    calls = (
        lambda: LEARNER.step(state, theta, Examples(x, labels)),
        lambda: LEARNER.updates(state, Examples(x, labels)),
        lambda: LEARNER.query(state, Examples(x[None], labels if labels is None else labels[None])),
    )
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int64])
def test_integers_of_every_numpy_kind_are_labels(kind):
    for label in (kind(3), np.array(3, dtype=kind), np.array([3], dtype=kind)):
        assert class_targets(label, 5).item() == 3
    labels = class_targets(np.array([0, 4], dtype=kind), 5, (2,))
    assert labels.tolist() == [0, 4]
    with pytest.raises(UserError, match="from 0 to 2"):
        class_targets(np.array(3, dtype=kind), 3)
