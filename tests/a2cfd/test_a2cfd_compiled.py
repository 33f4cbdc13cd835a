"""Compiled updates of A2CfD against eager ones."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.logger import Logger

from sb3_pgfd import A2CfD

DEVICES = ["cpu", *(["cuda"] if th.cuda.is_available() else [])]
MakeModel = Callable[..., A2CfD]


def updated(make_model: MakeModel, n_updates: tuple[int, int, int], **options: Any) -> A2CfD:
    """:return: A model after updates of pretraining, of the critic alone, and of both, on random rollouts"""
    n_pretraining, n_held, n_both = n_updates
    model = make_model(n_steps=6, critic_warmup_steps=6 * n_held, **options)
    model.set_logger(Logger(folder=None, output_formats=[]))
    rng = np.random.default_rng(1)
    np.random.seed(1)
    th.manual_seed(1)
    buffer = model.rollout_buffer
    for number in range(n_pretraining + n_held + n_both):
        # As a schedule sets it
        model._current_progress_remaining = 1.0 - number / 500
        if number < n_pretraining:
            model._pretrain_update()
            continue
        buffer.reset()
        for name in ("observations", "actions", "advantages", "returns"):
            getattr(buffer, name)[:] = rng.normal(size=getattr(buffer, name).shape)
        buffer.full = True
        model.train()
    return model


# After the held updates the optimiser gets a memory for the actor
@pytest.mark.parametrize(("use_rms_prop", "n_updates"), [(False, (0, 20, 200)), (True, (200, 0, 0))])
@pytest.mark.parametrize("device", DEVICES)
def test_200_updates_end_at_the_same_parameters(
    make_model: MakeModel, device: str, use_rms_prop: bool, n_updates: tuple[int, int, int]
) -> None:
    options: dict[str, Any] = dict(
        device=device,
        learning_rate=lambda progress: 1e-3 * progress,
        actor_learning_rate=lambda progress: 2e-4 * progress,
        pretrain_learning_rate=5e-4,
        ent_coef=0.01,
        normalize_advantage=True,
        bc_decay=0.99,
        use_rms_prop=use_rms_prop,
    )
    eager = updated(make_model, n_updates, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile=True")
        compiled = updated(make_model, n_updates, compile=True, **options)
    assert compiled._n_actor_updates == n_updates[2]
    for name, value in eager.policy.state_dict().items():
        assert (value - compiled.policy.state_dict()[name]).abs().max() <= 1e-5, name
    means, expected = compiled._metrics.flush(), eager._metrics.flush()
    assert means.keys() == expected.keys()
    assert means == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_an_optimiser_that_cannot_be_compiled_is_named_and_learning_goes_on(make_model: MakeModel) -> None:
    # It does not take a learning rate that is a tensor
    options: dict[str, Any] = dict(policy_kwargs={"optimizer_kwargs": {"foreach": True}})
    with pytest.warns(UserWarning, match="compile=True: the update cannot be compiled here .*Adam with foreach=True") as found:
        compiled = updated(make_model, (3, 3, 3), compile=True, **options)
    assert len(found) == 1
    eager = updated(make_model, (3, 3, 3), **options)
    for one, other in zip(compiled.policy.parameters(), eager.policy.parameters(), strict=True):
        assert th.equal(one, other)
