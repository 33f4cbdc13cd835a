"""The RL Zoo's commands, run in this process after registration."""

import sys
from collections.abc import Sequence

from sb3_pgfd.zoo.registration import register


def train() -> None:
    """``rl_zoo3.train`` with all of its arguments; ``--algo`` is ``ddpgfd`` by default."""
    register()
    import rl_zoo3.train

    from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

    # The Zoo's command names its manager's class, there is no other way to give it one
    setattr(rl_zoo3.train, "ExperimentManager", PgfdExperimentManager)  # noqa: B010
    _default(("--algo",), "ddpgfd")
    rl_zoo3.train.train()


def enjoy() -> None:
    """``rl_zoo3.enjoy`` with all of its arguments; ``--algo`` is ``ddpgfd`` and ``--folder`` is ``logs`` by default."""
    register()
    import rl_zoo3.enjoy

    _default(("--algo",), "ddpgfd")
    _default(("--folder", "-f"), "logs")
    rl_zoo3.enjoy.enjoy()


def _default(names: Sequence[str], value: str) -> None:
    """Give an argument on the command line unless it is there, also as ``--name=value`` or abbreviated."""
    for argument in sys.argv[1:]:
        word = argument.split("=")[0]
        if word in names or (len(word) > 3 and names[0].startswith(word)):
            return
    sys.argv.extend((names[0], value))
