"""Watch a discovery: as lines of text, with Weights & Biases, or with MLflow.

uv run python examples/watch_a_run.py
uv run --with wandb python examples/watch_a_run.py wandb
uv run --with mlflow python examples/watch_a_run.py mlflow
"""

import sys

from metaplast import Observer, discover


class PrintSteps(Observer):
    """Prints the score of every tenth outer step."""

    def record(self, loop, record):
        """Print the score."""
        if record.step % 10 == 0:
            print(f"{record.stage}, step {record.step} of {loop.steps}: score {record.score:.3f}")


class WeightsAndBiases(Observer):
    """One run of the project "metaplast": its settings, each outer step, the held-out test."""

    def begin(self, discovery):
        """Start the run."""
        import wandb

        self.run = wandb.init(project="metaplast", config=discovery.config.to_json())

    def record(self, loop, record):
        """Log one outer step, in charts of its stage."""
        self.run.log({f"{record.stage}/{name}": value for name, value in numbers(record).items()})

    def finish(self, result):
        """Log the test and the equation, and end the run."""
        for name, evaluation in result.heldout.items():
            self.run.summary[f"heldout/{name}"] = evaluation.band.mean
        self.run.summary["equation"] = str(result.rule)
        self.run.finish()


class MLflow(Observer):
    """One run of MLflow: its settings, each outer step, the held-out test, the equation."""

    def begin(self, discovery):
        """Start the run."""
        import mlflow

        self.mlflow = mlflow
        mlflow.start_run()
        mlflow.log_params(discovery.config.to_json())

    def record(self, loop, record):
        """Log one outer step, in charts of its stage."""
        # MLflow allows neither colons nor commas in names.
        stage = record.stage.replace(": ", " ").replace(",", " and")
        found = {f"{stage}/{name}": value for name, value in numbers(record).items()}
        self.mlflow.log_metrics(found, step=record.episodes)

    def finish(self, result):
        """Log the test and the equation, and end the run."""
        for name, evaluation in result.heldout.items():
            self.mlflow.log_metric(f"heldout/{name}", evaluation.band.mean)
        self.mlflow.log_text(str(result.rule), "equation.txt")
        self.mlflow.end_run()


def numbers(record):
    """Return the numbers of an outer step by name; θ has one number for each layer, or one."""
    found = {"loss": record.loss, "score": record.score, "terms": record.active}
    for term, values in record.theta.items():
        for layer, value in enumerate(values, start=1):
            found[f"theta/{term}/{layer}" if len(values) > 1 else f"theta/{term}"] = value
    return found


WATCHERS = {"text": PrintSteps, "wandb": WeightsAndBiases, "mlflow": MLflow}

if __name__ == "__main__":
    watcher = WATCHERS[sys.argv[1] if len(sys.argv) > 1 else "text"]()
    result = discover(
        terms="bio", observers=[watcher], dataset="clusters:8,6", ways=3, shots=4, queries=4,
        hidden=(8,), episodes=40, meta_batch=2, validation=8, test_episodes=20,
    )  # fmt: skip
    print(result.rule)
