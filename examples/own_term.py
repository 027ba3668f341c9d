"""A term of your own: declare it, let it compete with published terms, see whether it is kept.

uv run python examples/own_term.py
"""

from metaplast import DiscoveryConfig, Term, W, discover, dot, outer, post, pre

# Decay that grows with the error of the layer: W shrinks only while there is something to learn.
error_decay = Term(
    name="error_decay",
    formula=-(dot(post.error, post.error) * W),
    citation="this example",
    nonnegative=True,
)
hebbian = Term("hebbian", outer(post.activity, pre.activity), citation="Hebb 1949")

# A small run that takes seconds; for a real search, keep the defaults.
config = DiscoveryConfig(
    terms="F0,F2", hidden=(20,), shots=15, episodes=60, refit=20, validation=12, test_episodes=20
)
result = discover(config, terms=[error_decay, hebbian])

print(result.rule)
for term in result.searched.terms:
    fate = "kept" if term.name in result.kept else "dropped"
    print(f"{term.name:15} {term.locality:9} {fate:8} {term.spell()}")
