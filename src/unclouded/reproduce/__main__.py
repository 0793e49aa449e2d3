"""`python -m unclouded.reproduce NAME [--data ROOT] [--runs FOLDER]`."""

from __future__ import annotations

import sys

from unclouded.reproduce.run import main

if __name__ == "__main__":
    sys.exit(main())
