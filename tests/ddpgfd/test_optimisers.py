"""How far the networks move: targets, learning rates, L2."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.utils import polyak_update

from sb3_pgfd import DDPGfD

MakeModel = Callable[..., DDPGfD]


class Dense(th.nn.Module):
    """A features extractor that learns."""

    def __init__(self, observation_space: Any):
        super().__init__()
        self.features_dim = 4
        self.layer = th.nn.Linear(1, 4)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations)


@pytest.mark.parametrize("share", [False, True])
def test_targets_follow_like_those_of_sb3(make_model: MakeModel, share: bool) -> None:
    kwargs: dict[str, Any] = {"share_features_extractor": share, "features_extractor_class": Dense}
    model = make_model(tau=0.1, learning_rate=0.05, policy_kwargs=kwargs, pretrain_steps=0).learn(0)
    # Copies of their own, so that a shared features extractor moves once in each
    expected = {name: copy.deepcopy(getattr(model, f"{name}_target")) for name in ("critic", "actor")}
    model.train(1, 4)
    for name, target in expected.items():
        polyak_update(getattr(model, name).parameters(), target.parameters(), 0.1)
        for one, other in zip(target.parameters(), getattr(model, f"{name}_target").parameters(), strict=True):
            assert th.allclose(one, other, rtol=1e-5, atol=1e-8)


def test_l2_is_the_weight_decay_of_both_optimisers(make_model: MakeModel) -> None:
    model = make_model(l2_coef=0.125).learn(0)
    for network in (model.actor, model.critic):
        assert [group["weight_decay"] for group in network.optimizer.param_groups] == [0.125]


@pytest.mark.parametrize(
    ("actor_learning_rate", "expected"),
    [(None, 1e-3), (5e-4, 5e-4), (lambda remaining: 1e-4 * remaining, 5e-5)],
)
def test_learning_rates_and_their_schedules_reach_the_optimisers(
    make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD], recorder: Any, actor_learning_rate: Any, expected: float
) -> None:
    options = dict(learning_rate=lambda remaining: 2e-3 * remaining, actor_learning_rate=actor_learning_rate)
    model = attach(make_model(pretrain_steps=0, **options)).learn(0)
    model._current_progress_remaining = 0.5
    model.train(1, 8)
    model.dump_logs()
    assert [group["lr"] for group in model.critic.optimizer.param_groups] == [pytest.approx(1e-3)]
    assert [group["lr"] for group in model.actor.optimizer.param_groups] == [pytest.approx(expected)]
    assert recorder.rows[-1]["train/learning_rate"] == pytest.approx(1e-3)
    logged = None if actor_learning_rate is None else pytest.approx(expected)
    assert recorder.rows[-1].get("train/actor_learning_rate") == logged


def test_batch_statistics_are_copied_to_the_targets(make_model: MakeModel) -> None:
    class Normalized(th.nn.Flatten):
        """Flattens and normalises over the batch."""

        def __init__(self, observation_space: Any):
            super().__init__()
            self.features_dim = 1
            self.norm = th.nn.BatchNorm1d(1)

        def forward(self, observations: th.Tensor) -> th.Tensor:
            return self.norm(super().forward(observations))

    model = make_model(policy_kwargs={"features_extractor_class": Normalized}).learn(30)
    # Each update passes one batch through the actor, and actions in between leave the statistics alone
    assert model.actor.features_extractor.norm.num_batches_tracked == model._n_updates  # type: ignore[union-attr]  # see above
    for name in ("actor", "critic"):
        own, target = (getattr(model, attribute).features_extractor.norm for attribute in (name, f"{name}_target"))
        assert th.equal(own.running_mean, target.running_mean)
        assert not th.equal(own.running_mean, th.zeros(1))
