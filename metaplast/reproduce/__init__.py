"""Rerun published experiments: define them, run them, and judge their claims.

Experiments are found through the entry point group `metaplast.experiments`.
"""
