"""How many trials run at once: arithmetic on what a cluster has, without a cluster."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Resources:
    """CPUs and GPUs, of a cluster or of one trial."""

    cpus: float
    gpus: float = 0.0

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU{'s' * (self.cpus != 1)}, {self.gpus:g} GPU{'s' * (self.gpus != 1)}"


def per_trial(cluster: Resources, cpus: float, gpus: float | None) -> Resources:
    """What one trial asks for; with `gpus` None it gets a GPU if the cluster has any."""
    return Resources(cpus=cpus, gpus=min(cluster.gpus, 1.0) if gpus is None else gpus)


def concurrency(cluster: Resources, trial: Resources, trials: int) -> int:
    """How many trials fit at once; 0 if not even one does."""
    fitting = int((cluster.cpus + 1e-9) // trial.cpus)
    if trial.gpus:
        # a trial's share of a GPU lies on one GPU: 3 shares of 0.3 fit, whatever the number of GPUs
        fitting = min(fitting, int(cluster.gpus) * int((1 + 1e-9) // trial.gpus))
    return min(fitting, trials)
