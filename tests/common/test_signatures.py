"""What keeps the algorithms readable: few arguments, and an update that is read from top to bottom."""

import inspect
from typing import Any

import pytest

from sb3_pgfd import A2CfD, DDPGfD, SACfD, TD3fD

ALGORITHMS = [DDPGfD, TD3fD, SACfD, A2CfD]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_constructor_has_at_most_36_arguments_and_documents_each(algorithm: Any) -> None:
    names = list(inspect.signature(algorithm).parameters)
    assert len(names) <= 36
    documented = [
        line.split()[1].rstrip(":") for line in (inspect.getdoc(algorithm) or "").splitlines() if line.startswith(":param ")
    ]
    assert documented == names


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_update_is_one_function_of_at_most_80_lines(algorithm: Any) -> None:
    assert "update" in vars(algorithm), "in the algorithm's own file"
    assert len(inspect.getsource(algorithm.update).splitlines()) <= 80


def test_td3fd_takes_what_ddpgfd_takes_and_more() -> None:
    ddpgfd, td3fd = (list(inspect.signature(algorithm).parameters) for algorithm in (DDPGfD, TD3fD))
    assert set(ddpgfd) - set(td3fd) == {"action_gradient_coef", "importance_exponent"}
    more = {"policy_delay", "target_policy_noise", "target_noise_clip", "critic_warmup_steps", "proposals"}
    assert set(td3fd) - set(ddpgfd) == more
