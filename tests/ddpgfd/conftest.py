"""A small DDPGfD, and a way to see what it logs."""

from collections.abc import Callable
from typing import Any

import pytest
from point_to_goal import Recorder
from small_models import small_model
from stable_baselines3.common.logger import Logger

from sb3_pgfd import DDPGfD, Demonstrations


@pytest.fixture
def make_model(demonstrations: Demonstrations) -> Callable[..., DDPGfD]:
    """``make_model(policy, env, **options)``: a small model, with the demonstrations unless told otherwise."""

    def _make_model(*args: Any, **options: Any) -> DDPGfD:
        algorithm = options.pop("algorithm", DDPGfD)
        return small_model(algorithm, *args, **{"demonstrations": demonstrations, **options})

    return _make_model


@pytest.fixture
def attach(recorder: Recorder) -> Callable[[DDPGfD], DDPGfD]:
    """``attach(model)``: what the model logs goes to ``recorder``."""

    def _attach(model: DDPGfD) -> DDPGfD:
        model.set_logger(Logger(None, [recorder]))
        return model

    return _attach
