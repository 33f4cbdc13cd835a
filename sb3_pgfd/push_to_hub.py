"""``python -m sb3_pgfd.push_to_hub``: the RL Zoo's ``push_to_hub`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("push-to-hub"))
