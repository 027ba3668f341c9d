"""The objective that a rule is exported with, and its code in a program."""

from __future__ import annotations

from dataclasses import dataclass

from metaplast.base.errors import require
from metaplast.export.exporter import Network
from metaplast.export.spelling import OUTPUTS
from metaplast.rules.rule import Rule
from metaplast.systems.objective import Objective, all_objectives, get_objective


def objective_of(rule: Rule, network: Network) -> Objective:
    """Return the objective that a rule was found with; the network's if the rule names none.

    Raises:
        UserError: if the rule names an objective that is not installed, or was tested by the score
            of another objective.
    """
    named = rule.provenance.get("objective")
    found = network.objective if named is None else get_objective(str(named))
    scales = [each.score_scale for each in all_objectives().values()]
    tested = {s.key: s.name for s in scales if f"heldout_{s.key}" in rule.provenance}
    require(
        not tested or found.score_scale.key in tested,
        f"the rule would be exported with the objective {found.name}, whose score is "
        f"{found.score_scale.name}, but its provenance gives its score on held-out tasks as "
        f"{' and '.join(tested.values())}; restore the rule.json that its run wrote.",
    )
    return found


@dataclass(frozen=True)
class OutputCode:
    """An objective's part of a program.

    Attributes:
        objective: provides the code.
        library: what the program calls its array library.
    """

    objective: Objective
    library: str

    def __post_init__(self) -> None:
        """Check that the objective can be written as code.

        Raises:
            UserError: if it cannot; the message says what it lacks.
        """
        given = self.objective
        known = " or ".join(f'"{name}"' for name in OUTPUTS)
        lacking = [
            what
            for what, has in {
                'a target_kind ("classes" or "numbers")': given.target_kind is not None,
                f"an activity_text that programs know ({known})": given.activity_text in OUTPUTS,
                "an error_code": given.error_code is not None,
            }.items()
            if not has
        ]
        require(
            not lacking,
            f"a rule found with the objective {given.name} cannot be exported as code, because "
            f"that objective does not define {' and '.join(lacking)}; export it as latex, markdown "
            f"or json.",
        )

    def activity(self, output: str) -> str:
        """Return code of y_L from code of z_L."""
        return OUTPUTS[self.objective.activity_text][self.library].format(z=output)

    def error(self, target: str, activity: str = "y[-1]") -> str:
        """Return code of e_L from code of the target as a vector, and of y_L."""
        code = self.objective.error_code or ""
        return code.format(y=activity, t=target, xp=self.library)
