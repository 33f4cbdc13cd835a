"""Write run folders as the RL Zoo leaves them, and read what ``sb3-pgfd compare`` makes of them."""

import csv
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sb3_pgfd.comparison import Run


def write_run(
    root: Path,
    name: str,
    curve: Mapping[int, float],
    successes: Sequence[float] | None = None,
    config: Mapping[str, Any] | None = None,
    arguments: bool = True,
) -> Path:
    """
    :param root: The log root
    :param name: ``algo/env_number``, whose seed is the number
    :param curve: Mean return by step; the two episodes of an evaluation are 1 above and below
    :param successes: 0, 0.5 or 1 for each evaluation
    :param config: Hyperparameters
    :param arguments: Whether to leave ``args.yml``, too
    :return: The run's folder
    """
    folder = root / name
    algo, _, last = name.partition("/")
    env, _, number = last.rpartition("_")
    (folder / env).mkdir(parents=True)
    arrays: dict[str, Any] = {"timesteps": list(curve), "results": [[value - 1, value + 1] for value in curve.values()]}
    if successes is not None:
        arrays["successes"] = [[rate == 1, rate > 0] for rate in successes]
    np.savez(folder / "evaluations.npz", ep_lengths=np.ones((len(curve), 2), dtype=int), **arrays)
    if arguments:
        text = yaml.dump(OrderedDict([("algo", algo), ("env", env), ("seed", int(number))]))
        (folder / env / "args.yml").write_text(text)
        (folder / env / "config.yml").write_text(yaml.dump(OrderedDict(config or {"gamma": 0.9})))
    return folder


def make_run(curve: Mapping[int, float], label: str = "sac", env: str = "Pendulum-v1", **changes: Any) -> Run:
    """:return: A run that was never on disk"""
    successes = changes.pop("successes", None)
    rates = None if successes is None else np.array(successes, dtype=np.float64)
    steps, returns = (np.array(list(values), dtype=np.float64) for values in (curve.keys(), curve.values()))
    return Run(Path("logs", label, f"{env}_1"), env, label, steps, returns, rates, label, **changes)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
