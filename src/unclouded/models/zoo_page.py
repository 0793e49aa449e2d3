"""The page docs/model-zoo.md, made from the table of networks: `python -m unclouded.models.zoo_page > docs/model-zoo.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from unclouded.models.needs import Needs
from unclouded.models.published import KNOWN, PUBLISHED
from unclouded.models.zoo import NETWORKS, Network, needs_of, size

HEAD = """# Model zoo

The networks, as published. Made from the code by `python -m unclouded.models.zoo_page > docs/model-zoo.md`; do not edit.

Every network takes and gives physical units (reflectance, dB), any image size, and has weights only when you load some:
`unclouded remove ... --model NAME --weights FILE`. Sizes are counted at the published configuration; GMAC are the
multiply-adds of convolutions and matrix products for one patch of 256 x 256 pixels, and three dates for networks that take
a series. MiB are what a process that restores tiles takes beyond what it reads, weights included (`benchmarks/activations.py`,
on a processor).
"""

ASSUMED = """
## What was assumed

Where a paper leaves the architecture open, this was decided (more in the head of each file):
"""

WEIGHTS = """
## Where weights come from

No weights are shipped or fetched: licences differ or are not stated. Get a file from its authors, then
`unclouded models import --from KIND FILE`. Foreign files are read in a child process that never executes what is in them.
Scores are the authors' own, on their own data; see "Benchmarks" for what makes scores comparable.
"""

KINDS = """
Kinds of files that can be imported:
"""

TILES = """
## Tiles

A network marked *exact* gives the same result in tiles as on the whole image: its halo covers all that a pixel depends on.
The others are approximate: U-Nets and DRIB see further than the halo, GLF-CR lays its windows from the corner of the tile, and
networks with instance norm (`cyclegan-cloudmap`, `simulation-fusion`) use the mean and spread of the tile they are given.
"""


def page() -> str:
    """The page as Markdown."""
    networks = _table(("Name", "What it does", "Millions", "GMAC", "MiB", "Needs", "Tiles", "Source"), map(_network, NETWORKS))
    assumed = [f"- `{name}`: {row.assumed}." for name, row in NETWORKS.items() if row.assumed]
    weights = _table(("Model", "Trained on", "Licence", "Scores", "From"), map(_weights, range(len(KNOWN))))
    kinds = [f"- `{kind}`: becomes `{p.model}`; {p.url}" for kind, p in PUBLISHED.items()]
    return "\n".join([HEAD, *networks, TILES, ASSUMED, *assumed, WEIGHTS, *weights, KINDS, *kinds, ""])


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]


def _network(name: str) -> tuple[str, ...]:
    row, needs, (parameters, gmac) = NETWORKS[name], needs_of(name), size(name)
    tiles = f"{needs.tile} px, halo {needs.halo}, {needs.tiling}"
    return f"`{name}`", row.summary, f"{parameters / 1e6:.2f}", f"{gmac:.0f}", _held(row), _needed(needs), tiles, row.source


def _held(row: Network) -> str:
    return f"{row.held}" + (f" + {row.held_per_date} per date" if row.held_per_date else "")


def _needed(needs: Needs) -> str:
    bands = "any bands" if needs.bands is None else f"{len(needs.bands)} bands {' or '.join(needs.levels)}"
    low, high = needs.dates
    dates = "" if low == 1 else f"{low} or more dates" if high is None else f"{low} to {high} dates"
    radar = {"required": "radar", "optional": "radar if there", "unused": ""}[needs.sar]
    return ", ".join(part for part in (bands, radar, "cloud mask" if needs.cloud else "", dates) if part)


def _weights(at: int) -> tuple[str, ...]:
    record = KNOWN[at]
    scores = ", ".join(f"{name} {value:g}" for name, value in record.numbers.items())
    return f"`{record.model}`", record.trained_on, record.licence, f"{scores} ({record.citation})", f"<{record.url}>"


if __name__ == "__main__":
    sys.stdout.write(page())
