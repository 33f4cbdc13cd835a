"""``python -m sb3_pgfd``: the same as the command ``sb3-pgfd``."""

import sys

from sb3_pgfd.cli import main

if __name__ == "__main__":
    sys.exit(main())
