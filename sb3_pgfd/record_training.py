"""``python -m sb3_pgfd.record_training``: the RL Zoo's ``record_training`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("record-training"))
