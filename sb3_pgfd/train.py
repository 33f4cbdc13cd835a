"""``python -m sb3_pgfd.train``: the RL Zoo's ``train`` with this package's algorithms."""

from sb3_pgfd.zoo.front_end import train

if __name__ == "__main__":
    train()
