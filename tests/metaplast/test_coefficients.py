"""θ as one value: terms, numbers, and whether sites share them."""

import numpy as np
import pytest
import torch
from support import Clouds, assert_is_one_sentence, named

from metaplast.base.errors import UserError
from metaplast.base.plain_data import DataError
from metaplast.batch_jobs.sweep import Run, terms_csv
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.run_folder import RunFiles, load_rule, theta_columns
from metaplast.report.run import read_run
from metaplast.rules.rule import Rule
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.coefficients import Coefficients, number_text, site_names

NAMES = ("error_hebbian", "oja", "decay")
SHARED = Coefficients(NAMES, torch.tensor([0.5, 0.0, -0.25], dtype=torch.float64))
ONE = Coefficients(NAMES, SHARED.tensor[None])
TWO = Coefficients(NAMES, torch.tensor([[0.5, 0.0, -0.25], [0.125, 0.0, 1.0]], dtype=torch.float64))
EVERY = pytest.mark.parametrize("theta", [SHARED, ONE, TWO], ids=["shared", "one site", "two"])


@pytest.mark.parametrize("given", [[1.0], (1.0,), 1.0, None, np.ones(1)], ids=repr)
def test_what_is_no_tensor_is_refused(given):
    with pytest.raises(UserError, match=r"θ must be a tensor, got .*torch\.tensor") as caught:
        Coefficients(("a",), given)
    assert_is_one_sentence(caught.value)


def test_a_scale_of_other_terms_is_refused():
    for names in (("error_hebbian", "decay", "oja"), ("error_hebbian", "oja", "activity_error")):
        with pytest.raises(UserError, match="the scale belongs to the terms") as caught:
            SHARED.in_units(Coefficients(names, SHARED.tensor))
        assert_is_one_sentence(caught.value)


# --- shared, or per layer with a single site ---


def test_one_site_of_a_per_layer_theta_is_not_a_shared_theta():
    assert (SHARED.is_per_layer, ONE.is_per_layer) == (False, True)
    assert SHARED.sites == ONE.sites == 1
    assert SHARED != ONE
    assert hash(SHARED) != hash(ONE)
    assert torch.equal(SHARED.rows, ONE.rows)
    # A shared θ serves any number of sites.
    assert [theta.fits(3) for theta in (SHARED, ONE)] == [True, False]
    assert torch.equal(SHARED.for_sites(3), ONE.tensor.expand(3, 3))
    with pytest.raises(UserError, match="each of 1 layers, 3 are needed") as caught:
        ONE.for_sites(3)
    assert_is_one_sentence(caught.value)


STEPS = {
    "select": lambda theta: theta.select(("decay", "error_hebbian")),
    "drop": lambda theta: theta.drop("oja"),
    "insert": lambda theta: theta.insert(1, "activity_error"),
    "in units": lambda theta: theta.in_units(theta),
    "to a dtype": lambda theta: theta.like(torch.zeros(1, dtype=torch.float32)),
    "on a device": lambda theta: theta.on("cpu"),
    "plain and back": lambda theta: Coefficients.from_plain(theta.to_plain()),
    "a rule and back": lambda theta: Rule.of(named(*NAMES), theta, "fixed").named_theta,
    "a rule's file and back": lambda theta: (
        Rule.from_json(Rule.of(named(*NAMES), theta, "fixed").to_json()).named_theta
    ),
    "rows and back": lambda theta: Coefficients.from_rows(
        theta.names, theta.rows.tolist(), per_layer=theta.is_per_layer
    ),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
@EVERY
def test_no_step_turns_a_per_layer_theta_into_a_shared_one_or_back(theta, step):
    after = step(theta)
    assert (after.is_per_layer, after.sites) == (theta.is_per_layer, theta.sites)


@pytest.mark.parametrize("name", ["plain and back", "a rule and back", "a rule's file and back"])
@EVERY
def test_files_and_rules_keep_theta_whole(theta, name):
    assert STEPS[name](theta) == theta


def test_plain_data_are_a_number_or_a_list():
    assert SHARED.to_plain() == {"error_hebbian": 0.5, "oja": 0.0, "decay": -0.25}
    assert ONE.to_plain() == {"error_hebbian": [0.5], "oja": [0.0], "decay": [-0.25]}
    assert TWO.to_plain()["decay"] == [-0.25, 1.0]
    assert SHARED.columns() == ONE.columns()
    assert TWO.columns() == TWO.to_plain()


# --- terms ---


@EVERY
def test_terms_are_selected_dropped_and_inserted(theta):
    assert theta.select(NAMES) == theta
    assert theta.select(("decay", "oja")).columns() == {
        name: theta.values(name) for name in ("decay", "oja")
    }
    assert theta.select(()).names == ()
    assert theta.drop("oja") == theta.select(("error_hebbian", "decay"))
    more = theta.insert(1, "activity_error")
    assert more.names == ("error_hebbian", "activity_error", "oja", "decay")
    assert more.values("activity_error") == [0.0] * theta.sites
    assert more.drop("activity_error") == theta
    assert theta.insert(3, "activity_error").names[-1] == "activity_error"


def test_sizes_are_those_of_the_largest_site():
    assert SHARED.largest.tolist() == [0.5, 0.0, 0.25]
    assert TWO.largest.tolist() == [0.5, 0.0, 1.0]
    assert SHARED.used == TWO.used == ("error_hebbian", "decay")
    # A term that one site uses is used.
    rows = torch.tensor([[0.0, 0.0], [0.0, -1e-9]])
    assert Coefficients(("oja", "decay"), rows).used == ("decay",)


@pytest.mark.parametrize("shape", [(0,), (4, 0)], ids=str)
def test_theta_without_terms(shape):
    theta = Coefficients((), torch.zeros(shape))
    assert theta.largest.tolist() == []
    assert (theta.used, theta.columns(), theta.to_plain()) == ((), {}, {})
    assert tuple(theta.for_sites(4).shape) == (4, 0)


@pytest.mark.parametrize("sites", [None, 1, 2])
def test_theta_starts_at_the_terms_initial_coefficients(sites):
    terms = named(*NAMES)
    start = Coefficients.initial(terms, torch.float64, sites)
    assert (start.names, start.is_per_layer) == (NAMES, sites is not None)
    for row in start.rows.tolist():
        assert row == [term.initial for term in terms]


def test_numbers_are_compared_not_their_dtype():
    assert SHARED.like(torch.zeros(1, dtype=torch.float32)) == SHARED
    assert Coefficients(NAMES, SHARED.tensor + 1e-12) != SHARED
    assert Coefficients(NAMES[::-1], SHARED.tensor) != SHARED
    assert SHARED.to_plain() != SHARED


WRONG = {
    "an unknown term": lambda: SHARED.values("summed_error_hebbian"),
    "an unknown term to drop": lambda: SHARED.drop("summed_error_hebbian"),
    "an unknown term to select": lambda: SHARED.select(("oja", "summed_error_hebbian")),
    "a term selected twice": lambda: SHARED.select(("oja", "oja")),
    "a term inserted again": lambda: SHARED.insert(0, "oja"),
    "a number": lambda: Coefficients(("oja",), torch.tensor(1.0)),
    "three axes": lambda: Coefficients(("oja",), torch.zeros(1, 1, 1)),
    "too few numbers": lambda: Coefficients(NAMES, torch.zeros(2)),
    "a rule of other terms": lambda: Rule.of(named("oja", "decay"), SHARED, "fixed"),
    "a rule in another order": lambda: Rule.of(named(*NAMES[::-1]), SHARED, "fixed"),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_in_a_sentence(make):
    with pytest.raises(UserError) as caught:
        make()
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize(
    "data",
    [{"a": 1.0, "b": [1.0]}, {"a": [1.0], "b": [1.0, 2.0]}, {"a": []}, {"a": "1"}, {"a": [None]},
     {"a": float("nan")}, {"a": True}, {"a": [[1.0]]}],
    ids=str,
)  # fmt: skip
def test_plain_data_that_are_no_theta_are_refused(data):
    with pytest.raises(DataError):
        Coefficients.from_plain(data)


# --- text ---


def test_a_coefficient_is_printed_in_one_way():
    assert [number_text(x) for x in (0.0, -0.25, 1 / 3, 1.23456e-5)] == [
        "0", "-0.25", "0.3333", "1.235e-05",
    ]  # fmt: skip
    assert [theta.text("decay") for theta in (SHARED, ONE, TWO)] == ["-0.25", "-0.25", "-0.25, 1"]
    # The range of a single site is its number.
    assert [theta.range_text("decay") for theta in (SHARED, ONE, TWO)] == [
        "-0.25", "-0.25", "-0.25 … 1",
    ]  # fmt: skip
    # So is that of sites that have the same number.
    assert TWO.range_text(NAMES[1]) == "0"


def test_tables_name_a_column_for_each_site():
    assert theta_columns("oja", 1) == ["theta_oja"]
    assert theta_columns("oja", 2) == ["theta_oja_1", "theta_oja_2"]
    assert site_names("theta/oja", 2, "/layer_") == ["theta/oja/layer_1", "theta/oja/layer_2"]


# --- a whole run ---


def test_a_per_layer_rule_of_a_one_layer_network_stays_per_layer(tmp_path):
    split = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")
    config = DiscoveryConfig(
        terms="error_hebbian,oja,decay", hidden=(), theta="per-layer", ways=3, shots=2, queries=2,
        episodes=8, meta_batch=2, refit=4, refit_batch=2, look=4, validation=2, test_episodes=2,
        engine="fused", schedule="constant",
    )  # fmt: skip
    result = discover(config, folder=tmp_path, split=split, observers=[RunFiles(tmp_path)])
    assert result.rule.is_per_layer
    assert load_rule(tmp_path) == result.rule
    run = read_run(tmp_path)
    assert run.searched == result.searched.named_theta
    assert run.searched.is_per_layer
    assert run.searched.sites == 1
    # A single site has no number, as in every version so far.
    assert "theta_oja" in run.rows[0]
    assert "theta_oja_1" not in run.rows[0]
    path = run.trajectory("oja")
    assert path.values.shape[1] == 1
    rows = terms_csv([Run.of("one", config, dict(run.summary))]).splitlines()
    assert [row.split(",")[3] for row in rows[1:]] == ["1"] * 3
