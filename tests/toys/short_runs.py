"""Short runs in place of whole ones, for examples in documents whose result does not matter to a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import pytest
from stable_baselines3.common import callbacks, evaluation
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.zoo import agents

N_STEPS, N_PRETRAIN, N_EPISODES, N_TRIALS = 60, 20, 2, 1


@contextmanager
def short_runs() -> Iterator[None]:
    """Inside, ``learn()`` ends after ``N_STEPS`` steps, whatever it is told. All else is short too."""
    learn, pretrain, optimize = BaseAlgorithm._setup_learn, LearnsFromDemonstrations._setup_learn, optuna.Study.optimize
    evaluate, play = evaluation.evaluate_policy, agents.play

    def short_learn(self: BaseAlgorithm, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        return learn(self, min(total_timesteps, N_STEPS), *args, **kwargs)

    def short_pretrain(self: LearnsFromDemonstrations, *args: Any, **kwargs: Any) -> Any:
        self.pretrain_steps = min(self.pretrain_steps, N_PRETRAIN)
        return pretrain(self, *args, **kwargs)

    def short_evaluate(model: Any, env: Any, n_eval_episodes: int = 10, *args: Any, **kwargs: Any) -> Any:
        return evaluate(model, env, min(n_eval_episodes, N_EPISODES), *args, **kwargs)

    def short_optimize(self: optuna.Study, func: Any, n_trials: int | None = None, *args: Any, **kwargs: Any) -> None:
        optimize(self, func, min(n_trials or N_TRIALS, N_TRIALS), *args, **kwargs)

    def short_play(agent: agents.Agent, n_timesteps: int, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return play(agent, min(n_timesteps, N_STEPS), *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseAlgorithm, "_setup_learn", short_learn)
        patch.setattr(LearnsFromDemonstrations, "_setup_learn", short_pretrain)
        patch.setattr(evaluation, "evaluate_policy", short_evaluate)
        patch.setattr(callbacks, "evaluate_policy", short_evaluate)
        patch.setattr(agents, "play", short_play)
        patch.setattr(optuna.Study, "optimize", short_optimize)
        yield
