"""Rules from recordings: which monomials in x, y, W and a reward explain the activity or choices.

`Recording.of` makes a recording from arrays, `read_recording` reads one from a file, and `simulate`
simulates one. `infer` returns the rule with intervals, and says what the data cannot tell.
"""

from metaplast.recordings.inference import infer
from metaplast.recordings.inference_settings import InferenceSettings
from metaplast.recordings.model import Layer
from metaplast.recordings.monomial import MonomialTerm, candidates, monomial
from metaplast.recordings.plain_rule import PlainRule
from metaplast.recordings.published import PublishedRule
from metaplast.recordings.recording import Recording
from metaplast.recordings.result import FoundTerm, Inference
from metaplast.recordings.simulation import Design, Simulated, simulate

__all__ = [
    "Design", "FoundTerm", "Inference", "InferenceSettings", "Layer", "MonomialTerm", "PlainRule",
    "PublishedRule", "Recording", "Simulated", "candidates", "infer", "monomial", "simulate",
]  # fmt: skip
