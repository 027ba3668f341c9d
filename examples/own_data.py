"""Your own data: rows of numbers become tasks for discovery, and a stream for training networks.

uv run python examples/own_data.py
"""

from sklearn.datasets import load_wine

import episodes
from metaplast import DiscoveryConfig, FullyConnected, discover
from metaplast.online.train import OnlineSettings, train_online
from metaplast.tasks.request import StreamRequest

# Any rows of numbers with labels work: here 178 wines, 13 measurements, 3 classes.
# The measurements have different units, so each is scaled to 0 … 1.
table, labels = load_wine(return_X_y=True)
source = episodes.from_tensors(table, labels, name="wine", scale="columns")

config = DiscoveryConfig(
    terms="F0,F2,oja", hidden=(12,), ways=3, shots=14, queries=8,
    episodes=160, refit=40, refit_batch=4, validation=24, test_episodes=20, meta_lr=3e-3,
)  # fmt: skip
result = discover(config, split=source.split(config.request))
print(result.rule)
for name, evaluation in result.heldout.items():
    print(f"{name:20} {evaluation.band} on held-out tasks")

# The rule trains fresh networks on all the data, one wine at a time.
stream = source.stream(StreamRequest())
network = FullyConnected((stream.inputs, 12, stream.outputs))
settings = OnlineSettings(records=(0, stream.images, 4 * stream.images), seeds=5)
run = train_online(result.rule.learner(network), result.rule.tensor(), stream.final, settings)
for record, samples in enumerate(run.samples):
    print(f"after {samples:3d} wines: {run.band(record)} of 5 networks")
