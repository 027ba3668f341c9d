"""Reward-modulated reservoirs: fixed recurrent weights, and readouts that learn to move.

The equations are in `algorithm`; `plain_loop` is the whole algorithm, line by line, and
`simulation` computes the same numbers for several runs at once.
"""
