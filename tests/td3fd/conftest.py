"""A small TD3fD, and a way to see what it logs."""

from collections.abc import Callable
from typing import Any

import pytest
from point_to_goal import Recorder
from small_models import small_model
from stable_baselines3.common.logger import Logger

from sb3_pgfd import Demonstrations, TD3fD

MakeModel = Callable[..., TD3fD]


@pytest.fixture
def make_model(demonstrations: Demonstrations) -> MakeModel:
    """
    ``make_model(policy, env, **options)``: a small model, with the demonstrations unless told otherwise. It has two
    critics, of which the actor follows the first, no proposals and no Q-filter: tests switch on what they are about.
    """

    def _make_model(*args: Any, **options: Any) -> TD3fD:
        small: dict[str, Any] = dict(demonstrations=demonstrations, gradient_steps=1, critic_warmup_steps=0)
        small |= dict(proposals=False, q_filter=False)
        options["policy_kwargs"] = {"n_critics": 2, "n_target_critics": None, **options.get("policy_kwargs", {})}
        model = small_model(options.pop("algorithm", TD3fD), *args, **{**small, **options})
        assert isinstance(model, TD3fD)
        return model

    return _make_model


@pytest.fixture
def attach(recorder: Recorder) -> Callable[[TD3fD], TD3fD]:
    """``attach(model)``: what the model logs goes to ``recorder``."""

    def _attach(model: TD3fD) -> TD3fD:
        model.set_logger(Logger(None, [recorder]))
        return model

    return _attach
