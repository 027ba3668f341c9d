"""Published experiments, run again: what an experiment is, who runs it, what becomes of its claims.

The experiments themselves are found through the entry point group `metaplast.experiments`.
"""
