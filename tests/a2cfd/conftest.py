"""A small A2CfD, and a way to see what it logs."""

from collections.abc import Callable
from typing import Any

import pytest
from point_to_goal import Recorder
from small_models import with_no_option_chosen
from stable_baselines3.common.logger import Logger

from sb3_pgfd import A2CfD, Demonstrations


@pytest.fixture
def make_model(demonstrations: Demonstrations) -> Callable[..., A2CfD]:
    """``make_model(policy, env, **options)``: a small model, with the demonstrations unless told otherwise."""

    def _make_model(policy: Any = "MlpPolicy", env: Any = "PointToGoal-v0", **options: Any) -> A2CfD:
        policy_kwargs = {"net_arch": [16], **options.pop("policy_kwargs", {})}
        small: dict[str, Any] = dict(
            demonstrations=demonstrations,
            pretrain_steps=5,
            demo_batch_size=8,
            critic_warmup_steps=0,
            seed=0,
            device="cpu",
        )
        algorithm = options.pop("algorithm", A2CfD)
        return with_no_option_chosen(algorithm(policy, env, policy_kwargs=policy_kwargs, **{**small, **options}))

    return _make_model


@pytest.fixture
def attach(recorder: Recorder) -> Callable[[A2CfD], A2CfD]:
    """``attach(model)``: what the model logs goes to ``recorder``."""

    def _attach(model: A2CfD) -> A2CfD:
        model.set_logger(Logger(None, [recorder]))
        return model

    return _attach
