"""Discover a rule, save it to a file, and train a network with it in your own loop.

uv run python examples/discover_export_use.py
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits

from metaplast import DiscoveryConfig, FullyConnected, Rule, discover
from metaplast.export import export_rule, get_exporter

folder = Path(tempfile.mkdtemp())

# Discover: a small run that takes seconds.
config = DiscoveryConfig(
    terms="bio", hidden=(40, 30), shots=30, episodes=160, test_episodes=20, meta_lr=3e-3
)
rule = discover(config).rule
rule.save(folder / "rule.json")
print(rule)

# Export: code that needs only NumPy; it is run and compared with the engine before it is returned.
network = FullyConnected((64, 40, 30, 10))
exported = export_rule(rule, network, get_exporter("numpy"))
(folder / "rule.py").write_text(exported.text, encoding="utf-8")
print(f"rule.py: {exported.check}")

# Use: learn on plain matrices, one image at a time, without gradients.
rule = Rule.load(folder / "rule.json")
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
start = rule.learner(network).draw(1, torch.Generator().manual_seed(0))
weights, backward = ([matrix[0] for matrix in group] for group in (start.weights, start.backward))
for x, label in zip(images[:1000], labels[:1000], strict=True):
    weights, backward = rule.step(weights, x, label, backward)

y = images[1000:]
for matrix in weights[:-1]:
    y = torch.nn.functional.softplus(y @ matrix.T, beta=10)
correct = (y @ weights[-1].T).argmax(1) == labels[1000:]
print(f"{100 * correct.float().mean():.1f} % of {len(correct)} other digits classified correctly")
