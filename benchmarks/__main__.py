"""Every benchmark at its quick size, one after the other: `python -m benchmarks [NAME ...]`, or `make bench`.

Each is a command of its own with larger sizes; this prints the command before it runs it. Real samples are read from
UNCLOUDED_DATA (default ../shared/data); benchmarks that need them are left out, with a line, where they are absent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("UNCLOUDED_DATA", HERE.parent.parent / "shared" / "data"))

# name: (arguments at the quick size, whether it reads the real samples); {data} is their folder
QUICK: dict[str, tuple[tuple[str, ...], bool]] = {
    "series": (("--data", "{data}", "--quick"), True),
    "one_target": (("--data", "{data}"), True),
    "changes": (("--seeds", "1"), False),
    "masks": (("{data}",), True),
    "loading": (("--repeat", "10", "--patches", "2000"), False),
    "evaluation": (("--images", "40"), False),
    "networks": (("{data}",), True),
    "activations": (("sar-opt-cgan", "cyclegan-cloudmap", "--dates", "3"), False),
    "series_solvers": (("--data", "{data}", "--cases", "1", "--full", "0"), True),
    "tile": (("--size", "2048", "--hidden", "0.6", "--ratios", "--through"), False),
}


def main(names: list[str]) -> int:
    """Run the benchmarks named (all by default); the exit status is that of the worst."""
    unknown = [name for name in names if name not in QUICK]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(QUICK)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or QUICK:
        arguments, real = QUICK[name]
        if real and not DATA.is_dir():
            print(f"\n== {name}: left out, {DATA} is not there (set UNCLOUDED_DATA)")
            continue
        command = [sys.executable, f"benchmarks/{name}.py", *(part.format(data=DATA) for part in arguments)]
        print(f"\n== python {' '.join(command[1:])}", flush=True)
        worst = max(worst, subprocess.run(command, cwd=HERE.parent, check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
