"""Rerun published experiments: their definition, their execution, the verdicts on their claims.

Experiments are found through the entry point group `metaplast.experiments`.
"""
