"""Kuzushiji-MNIST (Clanuwat et al. 2018, arXiv:1812.01718): cursive Japanese characters."""

from episodes.mnist_family import mnist_like

KMNIST = mnist_like(
    "kmnist", "70,000 cursive Japanese characters of 28 × 28 pixels (10 classes)", "KMNIST"
)
