"""MNIST (LeCun, Cortes and Burges): handwritten digits."""

from episodes.mnist_family import mnist_like

MNIST = mnist_like("mnist", "70,000 handwritten digits of 28 × 28 pixels (10 classes)", "MNIST")
