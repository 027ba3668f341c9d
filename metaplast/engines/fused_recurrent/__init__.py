"""The fused engine's kernel for recurrent networks. numba is imported when it first runs."""
