"""This package's algorithms in the RL Zoo, and the commands that train and show them."""

from sb3_pgfd.a2cfd import A2CfD
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.ddpgfd import DDPGfD
from sb3_pgfd.sacfd import SACfD
from sb3_pgfd.td3fd import TD3fD
from sb3_pgfd.utils.files import install

ALGORITHMS: dict[str, type[LearnsFromDemonstrations]] = {
    "ddpgfd": DDPGfD,
    "td3fd": TD3fD,
    "sacfd": SACfD,
    "a2cfd": A2CfD,
}
"""This package's algorithms by their name in the RL Zoo"""


def register() -> None:
    """
    Make this package's algorithms known to rl-zoo3 in this process. Its tables are changed in place because its modules hold
    references to them. Calling it again is harmless.

    :raises ImportError: If rl-zoo3 is not installed
    """
    try:
        from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
        from rl_zoo3.utils import ALGOS
    except ImportError as error:
        raise ImportError(f"The RL Zoo cannot be imported ({error}): {install('zoo')}") from error
    from sb3_pgfd.zoo.hyperparams_opt import CONVERTERS, SAMPLERS

    ALGOS.update(ALGORITHMS)
    HYPERPARAMS_SAMPLER.update(SAMPLERS)
    HYPERPARAMS_CONVERTER.update(CONVERTERS)


__all__ = ["ALGORITHMS", "register"]
