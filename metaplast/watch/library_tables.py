"""Tables of the term library for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from metaplast.base.tables import new_table
from metaplast.systems.kind import all_systems
from metaplast.systems.served_terms import offers
from metaplast.systems.typical import typical_system
from metaplast.terms.algebra import post, pre
from metaplast.terms.library import KnownRule, pool_terms
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term

SHORT_ALIAS = 8
# Terms that read only these signals are listed without systems.
USUAL = frozenset({pre.activity, pre.error, post.activity, post.error})


def library_tables(terms: Iterable[Term], rules: Iterable[KnownRule]) -> list[Table]:
    """Return the term library, the known rules and their sources as tables for 80 columns."""
    terms, rules = sorted(terms, key=lambda t: t.is_backward), list(rules)
    known = new_table("Known rules")
    for column in ("name", "terms", "feedback"):
        known.add_column(column, overflow="fold", no_wrap=column == "name")
    for rule in rules:
        known.add_row(rule.name, ", ".join(rule.terms), rule.feedback[0])
    sources = new_table("Sources")
    for column in ("name", "source"):
        sources.add_column(column, overflow="fold", no_wrap=column == "name")
    for name, citation in [(t.name, t.citation) for t in terms] + [
        (r.name, r.citation) for r in rules
    ]:
        sources.add_row(name, citation)
    usual = [term for term in terms if _is_usual(term)]
    changes = {matrix: [t for t in usual if t.matrix.name == matrix] for matrix in ("W", "B")}
    found = [_term_table(matrix, some) for matrix, some in changes.items() if some]
    special = [term for term in terms if not _is_usual(term)]
    if special:
        found.append(_special_table(special))
    return [*found, known, sources]


def _term_table(matrix: str, terms: Iterable[Term]) -> Table:
    table = new_table(f"Terms that change {matrix}")
    for column in ("name", "alias", f"Δ{matrix}ₗ", "locality"):
        # A name or a formula that is split over two lines is hard to read.
        table.add_column(column, overflow="fold", no_wrap=column != "alias")
    for term in terms:
        # Long aliases belong to generated terms and repeat the formula.
        short = [alias for alias in term.aliases if len(alias) <= SHORT_ALIAS]
        table.add_row(term.name, ", ".join(short), term.spell(), term.locality)
    return table


def _is_usual(term: Term) -> bool:
    return term.signals <= USUAL and not (term.scalars or term.eligibilities)


def _special_table(terms: Iterable[Term]) -> Table:
    """Return a table of the terms that read more than y and e, with the systems that offer it."""
    table = new_table("Terms that read traces, scalars, or signals of particular systems")
    table.add_column("name", no_wrap=True)
    for column in ("change", "locality", "systems"):
        table.add_column(column, overflow="fold")
    systems = {name: typical_system(name) for name in all_systems()}
    for term in terms:
        found = [name for name, system in systems.items() if offers(system, term)]
        where = "all" if len(found) == len(systems) else ", ".join(found)
        table.add_row(term.name, term.spell(), term.locality, where or "no named system")
    return table


def pool_table(pools: Iterable[Pool]) -> Table:
    """Return the pools of candidate terms with their sizes, as a table."""
    table = new_table("Pools")
    for column in ("name", "terms", "local", "feedback", "candidates"):
        right = column in ("terms", "local")
        table.add_column(column, overflow="fold", justify="right" if right else "left")
    for pool in sorted(pools, key=lambda p: len(pool_terms(p))):
        terms = pool_terms(pool)
        local = sum(term.is_local for term in terms)
        table.add_row(pool.name, str(len(terms)), str(local), *pool.feedback[:1] or ("any",),
                      pool.summary)  # fmt: skip
    return table
