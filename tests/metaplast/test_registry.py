"""What packages register is found by name; duplicates are refused, misses get a suggestion."""

import importlib
import sys

import pytest
from support import assert_is_one_sentence, refusal, run_forked

from metaplast.base import registry
from metaplast.base.errors import UserError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.export.exporter import get_exporter
from metaplast.reproduce.experiment import get_experiment
from metaplast.rules.rule import Rule
from metaplast.systems.feedback import STACK as STACK_NAME
from metaplast.systems.feedback import all_feedbacks, get_feedback, serving
from metaplast.systems.kind import get_system
from metaplast.systems.objective import all_objectives, get_objective
from metaplast.tasks.library import all_sources, default_source, get_source, open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.terms.library import all_terms, baselines, choose_terms, get_term, known_rules

RULES = known_rules()
PUBLISHED = {
    "feedback_alignment": {"F0"},
    "backprop": {"F0"},
    "ehebb": {"F0", "F2"},
    "oja": {"F0", "F9"},
    "bio": {"F0", "F2", "F9"},
    "local_plastic": {"F0", "F2", "F9", "F3", "backward_hebbian", "backward_decay"},
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with entry points, as pip would, for the length of a test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(name, source, entries):
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entries)
        names.append(name)
        importlib.invalidate_caches()
        registry._found.clear()

    yield write
    for name in names:
        sys.modules.pop(name, None)
    registry._found.clear()


TERM_MODULE = """
from metaplast import Term, W, dot, outer, post, pre

comodulation = Term(
    name="{name}",
    formula=dot(post.activity, post.activity) * outer(post.activity, pre.activity),
    citation="made up",
    summary="a term of someone else's",
    aliases=("Cov",),
)
"""
SOURCE_MODULE = """
from metaplast import EpisodeSource, UserError

class Stars(EpisodeSource):
    name = "stars"
    summary = "someone else's data"

    def split(self, request):
        raise UserError(f"asked for {request.argument}.")

stars = Stars()
"""


def test_a_term_of_another_package_is_used_by_being_installed(install):
    assert "comodulation" not in all_terms()
    install("theirs", TERM_MODULE.format(name="comodulation"), "[metaplast.terms]\nx = theirs\n")
    assert get_term("cov").name == "comodulation"
    assert "comodulation" in [term.name for term in choose_terms("all").terms]
    names = [term.name for term in choose_terms("oja,comodulation").terms]
    assert names == ["oja", "comodulation"]


def test_an_entry_point_may_name_one_object(install):
    install(
        "theirs",
        TERM_MODULE.format(name="comodulation"),
        "[metaplast.terms]\nx = theirs:comodulation\n",
    )
    assert get_term("comodulation").citation == "made up"


POOL_MODULE = """
from metaplast import Term, W, outer, post, pre
from metaplast.terms import Pool, get_term

class Pair(Pool):
    name = "Pair"
    aliases = ("couple",)
    summary = "two terms of someone else's"
    feedback = ("direct",)
    alone = Term("{name}", outer(post.activity, pre.one), "made up")

    def terms(self):
        return (get_term("oja"), self.alone)

pair = Pair()
"""


@pytest.mark.parametrize("text", ["Pair", "pair", "couple"])
def test_a_pool_of_another_package_is_used_by_being_installed(text, install):
    install("theirs", POOL_MODULE.format(name="lonely"), "[metaplast.terms]\nx = theirs\n")
    choice = choose_terms(text)
    assert [term.name for term in choice.terms] == ["oja", "lonely"]
    assert choice.choose_feedback(None) == "direct"
    assert [term.name for term in choice.limited("local").terms] == ["lonely"]
    assert get_term("Lonely") is choice.terms[1]
    assert "lonely" not in all_terms()
    assert "lonely" not in names_of(choose_terms("all"))


@pytest.mark.parametrize("name", ["decay", "e_wty"])
def test_a_pool_gives_a_name_no_second_meaning(name, install):
    install("theirs", POOL_MODULE.format(name=name), "[metaplast.terms]\nx = theirs\n")
    with pytest.raises(UserError, match=f"a term '{name}', but another term has") as caught:
        choose_terms("pair")
    assert_is_one_sentence(caught.value)
    assert get_term("decay").name == "decay"


def test_a_source_of_another_package_is_used_by_being_installed(install):
    install("theirs", SOURCE_MODULE, "[metaplast.episodes]\nx = theirs\n")
    assert "stars" in all_sources()
    with pytest.raises(UserError, match=r"asked for bright\."):
        open_source("stars:bright", EpisodeRequest())


EXPORTER_MODULE = """
from metaplast.export import Exporter

class Haiku(Exporter):
    name = "haiku"
    suffix = ".txt"
    summary = "someone else's format"

    def write(self, rule, network):
        return f"{len(rule.terms)} terms, {network.layers} layers\\n"

haiku = Haiku()
"""


def test_an_exporter_of_another_package_is_used_by_being_installed(install, tmp_path, capsys):
    from metaplast.commands import export

    install("theirs", EXPORTER_MODULE, "[metaplast.exporters]\nx = theirs\n")
    path = tmp_path / "rule.json"
    Rule((get_term("oja"),), ((0.1,),), "fixed").save(path)
    export.main([str(path), "--to", "haiku", "--widths", "4,3,2"])
    assert capsys.readouterr().out == "1 terms, 2 layers\n"


def test_a_name_taken_twice_is_refused(install):
    install("theirs", TERM_MODULE.format(name="oja"), "[metaplast.terms]\nx = theirs\n")
    with pytest.raises(UserError, match="register the name 'oja'") as caught:
        all_terms()
    assert_is_one_sentence(caught.value)


def test_registering_one_object_twice_is_no_clash(install):
    entries = "[metaplast.terms]\nx = theirs\ny = theirs:comodulation\n"
    install("theirs", TERM_MODULE.format(name="comodulation"), entries)
    assert "comodulation" in all_terms()


BROKEN = {
    "an import": ("import nowhere_to_be_found", "ModuleNotFoundError"),
    "an exit": ("raise SystemExit(1)", "SystemExit"),
    "a syntax error": ("def", "SyntaxError"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_package_is_left_out_with_one_warning(source, reason, install):
    install("theirs", source, "[metaplast.terms]\nx = theirs\n")
    with pytest.warns(UserWarning, match="package theirs could not be loaded") as caught:
        found = all_terms()
    assert reason in str(caught[0].message)
    assert len(caught) == 1
    # The warning comes only once.
    assert all_terms() is found
    assert "oja" in found


ASKING_MODULE = """
from metaplast.systems import get_feedback
from metaplast.systems.feedbacks.fixed import Fixed

before = get_feedback("fixed")

class Mine(Fixed):
    name = "mine"
    aliases = ()
    summary = "of a package that looks something up while it is imported"

mine = Mine()
"""


@pytest.mark.parametrize("point", ["asking", "asking:mine"])
@pytest.mark.parametrize("first", ["its user", "the registry", "another group"])
def test_a_package_may_look_something_up_while_it_is_imported(point, first, install):
    entries = f"[metaplast.feedbacks]\nx = {point}\n[metaplast.objectives]\nx = asking\n"
    install("asking", ASKING_MODULE, entries)
    # Warnings are errors here: it must not be called broken either.
    if first == "its user":
        importlib.import_module("asking")
    elif first == "another group":
        all_objectives()
    assert get_feedback("mine") is sys.modules["asking"].mine
    assert all_feedbacks() is all_feedbacks()


@pytest.mark.parametrize("first", ["folded", "folded.part"])
def test_a_package_whose_modules_look_something_up_is_whole(first, install, tmp_path):
    package = tmp_path / "folded"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from metaplast.systems import get_feedback\nget_feedback('fixed')\nSTRENGTH = 1.0\n"
    )
    (package / "part.py").write_text(f"from folded import STRENGTH\n{ASKING_MODULE}")
    install("nothing", "", "[metaplast.feedbacks]\nx = folded\n")
    try:
        importlib.import_module(first)
        assert get_feedback("mine") is importlib.import_module("folded.part").mine
    finally:
        sys.modules.pop("folded", None)
        sys.modules.pop("folded.part", None)


def test_an_entry_point_to_nothing_is_left_out(install):
    install("theirs", "x = 1", "[metaplast.episodes]\nx = theirs:gone\n")
    with pytest.warns(UserWarning, match="package theirs could not be loaded"):
        assert "digits" in all_sources()


@pytest.mark.slow
def test_a_file_that_hides_a_package_of_ours_is_named(tmp_path):
    code = (
        "import sys; from metaplast.commands import discover, guard; "
        "sys.exit(guard(discover.main, ['--list-terms']))"
    )
    files, programs = {}, []
    for package, form in (("episodes", "{}.py"), ("rule_library", "{}/__init__.py")):
        folder = tmp_path / package
        file = folder / form.format(package)
        file.parent.mkdir(parents=True)
        # If this ran, the process would end with exit code 3.
        file.write_text("raise SystemExit(3)")
        files[file] = package
        programs.append([str(folder), ["-c"], [str(folder)], code])
    ended = run_forked(programs, tmp_path)
    for (file, package), (returned, _, errors) in zip(files.items(), ended, strict=True):
        assert returned == 2, errors
        assert errors.startswith(f"error: {file} hides the package {package!r}")
        assert errors.count("\n") == 1


GROUPS = {
    "terms": lambda: get_term("oja"),
    "terms of the default configuration": lambda: choose_terms("all"),
    "episodes": lambda: get_source("digits"),
    "systems": lambda: get_system("fully-connected"),
    "feedbacks": lambda: get_feedback("fixed"),
    "objectives": lambda: get_objective("cross-entropy"),
    "exporters": lambda: get_exporter("json"),
    "experiments": lambda: get_experiment("beyond"),
    "terms of a configuration": DiscoveryConfig,
}


@pytest.mark.parametrize(("group", "ask"), GROUPS.items(), ids=GROUPS)
def test_without_entry_points_metaplast_asks_to_be_installed(group, ask, monkeypatch):
    ask()
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    registry._found.clear()
    with pytest.raises(UserError, match="no installed package offers any ") as caught:
        ask()
    monkeypatch.undo()
    assert_is_one_sentence(caught.value)
    assert f"metaplast.{group.split()[0]}" in str(caught.value)
    assert "`uv sync` or `pip install -e .`" in str(caught.value)
    ask()


def test_a_folder_of_data_hides_nothing(tmp_path, monkeypatch):
    (tmp_path / "episodes").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._found.clear()
    assert "digits" in all_sources()


# --- choosing terms ---


def names_of(choice):
    return [term.name for term in choice.terms]


def test_all_is_the_forward_pool():
    choice = choose_terms("all")
    installed = all_terms().values()
    assert names_of(choice) == [t.name for t in installed if t.in_pool and not t.is_backward]
    assert {get_term(f"F{k}").name for k in range(10)} <= set(names_of(choice))
    assert choice.is_pool
    assert choice.choose_feedback(None) == "fixed"


def test_all_with_backward_adds_the_backward_terms_and_plastic_feedback():
    choice = choose_terms("all+backward")
    assert set(names_of(choice)) == {term.name for term in all_terms().values() if term.in_pool}
    assert {"backward_hebbian", "backward_decay"} <= set(names_of(choice))
    assert choice.choose_feedback(None) == "plastic"
    with pytest.raises(UserError, match="goes with feedback plastic"):
        choice.choose_feedback("fixed")


@pytest.mark.parametrize("rule", PUBLISHED)
def test_published_rules_are_made_of_their_terms(rule):
    choice = choose_terms(rule)
    assert set(choice.terms) == {get_term(name) for name in PUBLISHED[rule]}
    assert not choice.is_pool


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_contract_of_a_known_rule(rule):
    terms = [get_term(name) for name in rule.terms]
    assert len(set(terms)) == len(terms) > 0
    assert rule.feedback
    for name in rule.feedback:
        assert all_feedbacks()[name].is_plastic or not any(term.is_backward for term in terms)
    assert rule.citation
    assert rule.summary
    assert rule.name == rule.name.lower()
    assert choose_terms(rule.name).choose_feedback(None) == rule.feedback[0]


def test_baselines():
    assert {r.name for r in baselines(serving(STACK_NAME))} == {"feedback_alignment", "backprop"}
    assert {r.name for r in baselines(("implicit",))} == {"euclidean_gradient"}
    assert baselines(("nonsense",)) == ()


@pytest.mark.parametrize("text", ["F0, error_error,f9", "error_hebbian,F2,OJA", "F0,F2 F9,"])
def test_lists_take_names_aliases_any_case_and_spaces(text):
    choice = choose_terms(text)
    assert names_of(choice) == ["error_hebbian", "error_error", "oja"]
    assert choice.is_pool
    assert choice.choose_feedback("direct") == "direct"


@pytest.mark.parametrize(("rule", "feedback"), [("backprop", "fixed"), ("bio", "symmetric")])
def test_feedback_that_contradicts_a_rule_is_refused(rule, feedback):
    with pytest.raises(UserError, match=f"--terms {rule} goes with feedback") as caught:
        choose_terms(rule).choose_feedback(feedback)
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("alias", "rule"), [("fa", "feedback_alignment"), ("bp", "backprop"), ("BIO", "bio")]
)
def test_rules_have_aliases_in_any_case(alias, rule):
    choice = choose_terms(alias)
    assert choice.terms == choose_terms(rule).terms
    assert choice.feedback == choose_terms(rule).feedback
    assert not choice.is_pool


RULE_MODULE = """
from metaplast import KnownRule

mixed = KnownRule("MixedCase", ("oja",), ("fixed",), "a rule", "made up", aliases=("MC",))
"""


@pytest.mark.parametrize("name", ["MixedCase", "mixedcase", "mc", "MC"])
def test_a_rule_of_another_package_is_found_in_any_case(name, install):
    install("mixed_rules", RULE_MODULE, "[metaplast.terms]\nmixed = mixed_rules\n")
    choice = choose_terms(name)
    assert [term.name for term in choice.terms] == ["oja"]
    assert not choice.is_pool


MISSES = {
    "ojja": "did you mean 'oja'",
    "eror_hebbian": "did you mean 'error_hebbian'",
    "backpropp": "did you mean 'backprop'",
    "allbackward": "did you mean 'all",
    "oja,desay": "did you mean 'decay'",
    "F12": "did you mean 'f",
    "qqqqqq": "choose one of: ",
    "": "names no term",
    " , ": "names no term",
}


@pytest.mark.parametrize(("text", "sentence"), MISSES.items())
def test_a_miss_suggests_the_nearest(text, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        choose_terms(text)
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("name", [None, 3, 1.5, True, b"oja", ["oja"], get_term("oja")])
def test_what_is_no_text_is_no_name(name):
    assert "a name must be text" in refusal(get_term, name)


def test_a_term_named_twice_is_refused():
    with pytest.raises(UserError, match="once") as caught:
        choose_terms("oja,decay,F9")
    assert_is_one_sentence(caught.value)


# --- sources ---


def test_the_default_source_needs_no_download():
    assert default_source() == "digits"


def test_exactly_one_source_is_the_default():
    assert sum(source.is_default for source in all_sources().values()) == 1


def test_a_source_takes_what_follows_the_colon():
    source, argument = get_source("clusters:32,10")
    assert (source.name, argument) == ("clusters", "32,10")


def test_a_missing_source_suggests_the_nearest():
    with pytest.raises(UserError, match="unknown data set 'digit'; did you mean 'digits'"):
        get_source("digit")
