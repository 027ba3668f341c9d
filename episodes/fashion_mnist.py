"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): articles of clothing."""

from episodes.mnist_family import mnist_like

FASHION_MNIST = mnist_like(
    "fashion-mnist", "70,000 articles of clothing of 28 × 28 pixels (10 classes)", "FashionMNIST"
)
