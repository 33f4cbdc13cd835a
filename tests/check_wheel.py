"""Run by `make wheel` in a virtual environment that holds the wheel and nothing else of this project."""

import pathlib

import sb3_pgfd
from sb3_pgfd import A2CfD, DDPGfD, Demonstrations, SACfD, TD3fD
from sb3_pgfd.cli import main
from sb3_pgfd.utils.files import hyperparams_file, packaged_demonstrations

if __name__ == "__main__":
    package = pathlib.Path(sb3_pgfd.__file__).parent
    assert "site-packages" in package.parts, f"found the package in {package}, expected it in site-packages"
    assert (package / "py.typed").is_file()
    for algo in ("ddpgfd", "td3fd", "sacfd", "a2cfd"):
        assert hyperparams_file(algo).is_relative_to(package)
        assert hyperparams_file(algo).is_file()
    names = list(packaged_demonstrations())
    assert names, "found no packaged demonstrations"
    for name in names:
        print(Demonstrations.load(name))
    assert not list(package.glob("demos/*.py")), "the scripts that make demonstrations are not part of the wheel"
    for algorithm in (DDPGfD, TD3fD, SACfD):
        model = algorithm("MlpPolicy", "Pendulum-v1", demonstrations="Pendulum-v1", pretrain_steps=10, learning_starts=20)
        model.learn(30)
    A2CfD("MlpPolicy", "Pendulum-v1", demonstrations="Pendulum-v1-20", pretrain_steps=10).learn(30)
    # Showing and filtering demonstrations needs no extra
    assert main(["demos", "show", "Pendulum-v1", "--replay"]) == 0
    assert main(["demos", "filter", "Pendulum-v1", "good.npz", "--min-return", "-200", "--force"]) == 0
    print(f"sb3-pgfd {sb3_pgfd.__version__} learns from its wheel")
