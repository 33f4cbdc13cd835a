"""``python -m sb3_pgfd.record_video``: the RL Zoo's ``record_video`` with this package's algorithms."""

import sys

from sb3_pgfd.zoo.commands import main

if __name__ == "__main__":
    sys.exit(main("record-video"))
