"""``python -m sb3_pgfd.load_from_hub``: the RL Zoo's ``load_from_hub`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("load-from-hub"))
