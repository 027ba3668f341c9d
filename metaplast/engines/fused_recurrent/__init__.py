"""The kernel with which the fused engine runs recurrent networks; numba is imported late."""
