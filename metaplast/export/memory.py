"""Code for what synapses remember between examples: traces, eligibilities, a count of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metaplast.base.errors import require
from metaplast.export.exporter import declared
from metaplast.export.python import LINE, statements, variable, vector_code
from metaplast.systems.aging import AGE
from metaplast.systems.broadcast import CONFIDENCE, ERROR_SIZE
from metaplast.terms.algebra import Eligibility, Matrix, Signal
from metaplast.terms.fading import fading_of
from metaplast.terms.term import Term
from metaplast.terms.traces import Trace, scalar_trace_of, trace_of

#: Code of the scalars that a stack's program computes from y[-1] and e[-1]; {xp} is the library.
SCALARS = {ERROR_SIZE: "{xp}.sqrt((e[-1] ** 2).sum())", CONFIDENCE: "y[-1].max()"}
#: Array libraries whose programs can have a memory.
LIBRARIES = ("np", "jnp")

#: Code that the drivers of such programs share: how a memory begins, and a call that may return it.
MEMORY_CALLS = '''

def begun(code, weights, feedback):
    """Return the memory with which a task begins, in a list; none if synapses remember nothing."""
    if not hasattr(code, "begin"):
        return []
    return [code.begin(*((weights, feedback) if feedback else (weights,)))]


def learned(learn, weights, feedback, memory, *example):
    """Return weights, feedback and memory after a call of the program."""
    given = (weights, feedback) if feedback else (weights,)
    result = learn(*given, *memory, *example)
    result = list(result) if isinstance(result, tuple) else [result]
    memory = [result.pop()] if memory else []
    weights, feedback = result if len(result) == 2 else (result[0], feedback)
    return weights, feedback, memory
'''


@dataclass(frozen=True)
class Memory:
    """What the synapses of one kind of matrix remember.

    Attributes:
        matrix: W or B.
        traces: the traces of signals, by variable.
        scalar_traces: what each trace of a scalar follows and its τ, by variable.
        fadings: τ of each fading, by variable.
        kept: the variable of each eligibility.
        library: what the program calls its array library.
    """

    matrix: Matrix
    traces: Mapping[str, Trace]
    scalar_traces: Mapping[str, tuple[str, float]]
    fadings: Mapping[str, float]
    kept: Mapping[Eligibility, str]
    library: str

    @classmethod
    def of(cls, terms: Sequence[Term], library: str) -> Memory | None:
        """Return the memory of terms on one matrix; None if they have none."""
        formulas = [declared(term) for term in terms]
        if not formulas:
            return None
        vectors = {v for f in formulas for v in f.vectors if isinstance(v, Signal)}
        found = {variable(v): trace_of(v) for v in sorted(vectors, key=variable)}
        names = sorted({name for f in formulas for name in f.scalars})
        followed = {name: scalar_trace_of(name) for name in names}
        fadings = {name: fading_of(name) for name in names}
        kept = dict.fromkeys(e for f in formulas for e in f.eligibilities)
        memory = cls(
            formulas[0].matrix,
            {name: trace for name, trace in found.items() if trace is not None},
            {name: trace for name, trace in followed.items() if trace is not None},
            {name: tau for name, tau in fadings.items() if tau is not None},
            {eligibility: f"E_{i}" for i, eligibility in enumerate(kept, 1)},
            library,
        )
        return memory if memory.names else None

    @property
    def names(self) -> tuple[str, ...]:
        """The variables of the memory."""
        return (*self.traces, *self._numbers, *self.kept.values())

    @property
    def follows(self) -> bool:
        """Whether there is a trace or an eligibility."""
        return bool(self.traces or self.scalar_traces or self.kept)

    @property
    def _numbers(self) -> tuple[str, ...]:
        """The variables that are single numbers."""
        age = (AGE,) if self.fadings else ()
        return (*self.scalar_traces, *self.fadings, *age)

    @property
    def sources(self) -> frozenset[str]:
        """The variables of the signals that traces follow."""
        return frozenset(variable(trace.signal) for trace in self.traces.values())

    @property
    def begins(self) -> tuple[tuple[str, str], ...]:
        """Each variable with the code of its initial value, zeros."""
        matrix = self.matrix.name
        places = {self.matrix.rows: f"{matrix}[:, 0]", self.matrix.columns: f"{matrix}[0]"}
        found = [(name, places[trace.signal.population]) for name, trace in self.traces.items()]
        found += [(name, f"{matrix}[0, 0]") for name in self._numbers]
        found += [(name, matrix) for name in self.kept.values()]
        return tuple((name, f"{self.library}.zeros_like({like})") for name, like in found)

    @property
    def lines(self) -> tuple[str, ...]:
        """Code that updates every variable, from the dictionary `memory`."""
        lines = []
        for name, trace in self.traces.items():
            value = vector_code(trace.followed, self.library)
            lines += _follow(name, value, trace.tau)
        for name, (source, tau) in self.scalar_traces.items():
            lines += _follow(name, source, tau)
        for name, tau in self.fadings.items():
            lines.append(f'{name} = 1 / (1 + memory["{AGE}"] / {tau!r})')
        if self.fadings:
            lines.append(f'{AGE} = memory["{AGE}"] + 1')
        for kept, name in self.kept.items():
            lines.append(f"change = {self.library}.zeros_like({self.matrix.name})")
            lines += statements("change", "", kept.formula, self.library)
            lines.append(f'{name} = {1 - 1 / kept.tau!r} * memory["{name}"] + change')
        return tuple(lines)


def _follow(name: str, value: str, tau: float) -> list[str]:
    """Return lines of code that make a trace follow a value."""
    product = f"({value})" if " " in value else value
    parts = f'{1 - 1 / tau!r} * memory["{name}"]', f"{product} / {tau!r}"
    line = f"{name} = {' + '.join(parts)}"
    if len(line) <= LINE:
        return [line]
    both = " + ".join(parts)
    inner = [both] if len(both) + 4 <= LINE else [parts[0], f"+ {parts[1]}"]
    return [f"{name} = (", *(f"    {part}" for part in inner), ")"]


def read_scalars(terms: Iterable[Term]) -> tuple[str, ...]:
    """Return the scalars of the output that terms read, directly or through a trace."""
    names = {name for term in terms for name in term.scalars}
    names = {(scalar_trace_of(name) or (name,))[0] for name in names}
    return tuple(name for name in SCALARS if name in names)


def require_code(term: Term, library: str, *, softmax: bool) -> None:
    """Raise `UserError` unless programs can compute what a term reads.

    Args:
        term: a declared term.
        library: what the program calls its array library.
        softmax: whether the outputs are probabilities.
    """
    followed = {s: trace_of(s) for s in term.signals}
    sources = {s if t is None else t.signal for s, t in followed.items()}
    others = sorted(s.written for s in sources if s.kind not in ("activity", "error"))
    require(
        not others,
        f"programs compute only activities and errors, but the term {term.name} reads "
        f"{', '.join(others)}; export the rule as latex, markdown or json.",
    )
    known = {name for name in SCALARS if softmax or name != CONFIDENCE}
    scalars = {(scalar_trace_of(name) or (name,))[0] for name in term.broadcast}
    require(
        scalars <= known,
        f"programs compute only scalars of the output, but the term {term.name} reads "
        f"{', '.join(sorted(scalars - known))}; export the rule as latex, markdown or json.",
    )
    needs = bool(term.scalars or term.eligibilities) or any(followed.values())
    require(
        library in LIBRARIES or not needs,
        f"this program has no traces, eligibilities, scalars or fading, but the term {term.name} "
        f"needs them; export the rule as numpy, jax, latex, markdown or json.",
    )
