"""Where output cannot show Unicode, formulas and tables are printed in ASCII."""

import contextlib
import io
import os
import subprocess
import sys

import pytest
from support import TERMS, named

from metaplast.base.plain_text import make_streams_safe, to_ascii
from metaplast.rules.rule import Rule
from metaplast.terms.library import all_terms, known_rules, pools
from metaplast.terms.notation import ASCII
from metaplast.watch.console import make_console
from metaplast.watch.library_tables import library_tables, pool_table


@pytest.fixture(params=["ascii", "cp1252", "latin-1", "cp437", "utf-8"])
def stream(request):
    """A pipe of some encoding."""
    return io.TextIOWrapper(io.BytesIO(), encoding=request.param, newline="")


@contextlib.contextmanager
def printed_to(stream):
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield


def read(stream):
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_spelled_equation_is_the_ascii_equation(term):
    for theta in (((0.5,),), ((0.5,), (-1e-5,))):
        rule = Rule((term,), theta, "plastic")
        assert to_ascii(rule.equation()) == rule.equation(ASCII)
        assert rule.equation(ASCII).isascii()


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("yₗ₋₁ᵀ Wₗ", "y_{l-1}^T W_l"),
        ("θ −0.5 … ‖W‖² ≤ 2⁶³", "theta -0.5 ... ||W||^2 <= 2^{63}"),
        ("Łódź, naïve", "Lodz, naive"),
        ("│─┼━", "|-+-"),
        ("日", "\\u65e5"),
        ("plain", "plain"),
    ],
)
def test_what_is_no_ascii_is_spelled(text, spelled):
    assert to_ascii(text) == spelled


def test_all_tables_and_rules_reach_every_stream(stream):
    with printed_to(stream):
        console = make_console()
        console.out(Rule(named("oja"), ((-0.5,),), "fixed"))
        tables = library_tables(all_terms().values(), known_rules().values())
        for table in (*tables, pool_table(pools().values())):
            console.print(table)
        print("a plain print: θ, 日", file=sys.stderr)
    text = read(stream)
    unicode = stream.encoding == "utf-8"
    assert ("ΔWₗ = −0.5" if unicode else "Delta W_l = -0.5") in text
    assert ("θ, 日" if unicode else "\\u65e5") in text


def test_columns_stay_straight(stream):
    library, *_ = library_tables(named("oja", "error_hebbian"), ())
    with printed_to(stream):
        make_console().print(library)
    table = read(stream).splitlines()[2:-1]
    assert len({len(line) for line in table}) == 1


def test_a_strange_file_name_is_written_as_it_was(stream):
    with printed_to(stream):
        make_streams_safe()
        print(os.fsdecode(b"run\xff"))
    stream.flush()
    assert stream.buffer.getvalue() == b"run\xff\n"


@pytest.mark.slow
def test_a_command_tells_a_mistake_in_ascii():
    code = "import sys; from metaplast.commands import script; sys.exit(script('export'))"
    done = subprocess.run(
        [sys.executable, "-c", code, "ΔWₗ.json", "--to", "json"], capture_output=True, check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}, encoding="ascii",
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Delta W_l.json" in done.stderr


def test_code_on_standard_output_is_utf_8_like_a_file(tmp_path, stream):
    from metaplast.commands import export

    path = tmp_path / "rule.json"
    Rule(named("oja"), ((-0.5,),), "fixed").save(path)
    with printed_to(stream):
        export.main([str(path), "--to", "json", "--widths", "4,3,2"])
    export.main([str(path), "--to", "json", "--widths", "4,3,2", "--output", f"{tmp_path}/a.json"])
    assert (tmp_path / "a.json").read_bytes() in stream.buffer.getvalue()
