"""Benchmarks: every result table of the papers as a record, its published numbers beside it as a data file (tables/*.csv).

Numbers stand as printed; suspected misprints are named in `notes`, never corrected. A table whose body is not in the text of
the paper at hand has no file: `published: unavailable`. Empty cells were not printed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np

from unclouded.errors import UsageError


class Published(NamedTuple):
    """One printed row: the method and its numbers by column."""

    method: str
    numbers: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One table of a paper, or one of ours: which data, which arithmetic, which numbers to compare with.

    `columns`: the preset's row for a column where the names differ. `by`: what the printed rows run over besides methods.
    `marks`: what is wrong with a published row, by method; `any` stands for all rows.
    """

    name: str
    source: str
    about: str
    dataset: Literal["SEN12MS-CR", "SEN12MS-CR-TS", "SEN1-2", "any"]
    split: str
    preset: str
    table: str | None = None  # the file in tables/, without .csv; None: nothing to compare with, see `notes`
    by: Literal["", "cover", "interval", "dates"] = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def published(self) -> tuple[Published, ...] | None:
        """The printed rows in their order, columns by the preset's row names; None where the paper's text has no body."""
        if self.table is None:
            return None
        text = files("unclouded.evaluation").joinpath(f"tables/{self.table}.csv").read_text(encoding="utf-8")
        return tuple(
            Published(
                row["method"],
                {self.columns.get(name, name): float(cell) for name, cell in row.items() if name != "method" and cell},
            )
            for row in csv.DictReader(text.splitlines())
        )


LEAK = "loader finds ROIs by substring: 6 of 10 test ROIs (60.3 % of the patches) were also trained on"
SUSPECT = "published through a loader that finds ROIs by substring; whether this run leaked is not known"
CLEAN = "trained with an exact split"
_CR_TEST = "test, 10 ROIs, 7,899 patches (Ebel 2020 prints 7,893)"
_TS_TEST = "test, 13 ROIs"
_OLD = "an earlier release of the data (149/10/10 ROIs) whose names do not map to the released ones: not reproducible exactly"

_ALL = (
    Benchmark(
        name="unclouded-v1", source="this project", dataset="any", split="test, ROIs matched exactly",
        about="our own protocol, on any data set", preset="unclouded-v1",
        notes=("published: unavailable. Only our own runs are comparable under one protocol.",),
    ),
    Benchmark(
        name="sen12mscr", source="the papers named, each by its own conventions", dataset="SEN12MS-CR", split=_CR_TEST,
        about="our protocol on SEN12MS-CR, with the field's numbers beside", preset="unclouded-v1", table="field_sen12mscr",
        marks={
            "any": SUSPECT, "ECRformer": LEAK, "EMRDM": LEAK, "DiffCR": LEAK, "HPN-CR": "probably an exact split",
            "GeoCR": CLEAN, "UnCRtainTS (re-trained without the leak)": CLEAN, "EMRDM (re-trained without the leak)": CLEAN,
        },
        notes=("each number follows its own paper's conventions; the re-trained rows had their own schedules",),
    ),
    Benchmark(
        name="sen12mscrts", source="UnCRtainTS (Ebel et al. 2023)", dataset="SEN12MS-CR-TS", split=_TS_TEST,
        about="our protocol on SEN12MS-CR-TS, three input dates", preset="unclouded-v1", table="field_sen12mscrts",
        notes=("the published sampler may hand the target date in as an input",),
    ),
    Benchmark(
        name="meraner2020-table1", source="Meraner et al. 2020, Table 1 (a) and (b)", dataset="SEN12MS-CR", split=_OLD,
        about="DSen2-CR: target, reproduction and reconstruction errors", preset="meraner2020", table="meraner2020_table1",
        marks={"any": _OLD},
        notes=(
            "suspected misprints: PSNR 27.6 beside RMSE 0.0387, whose PSNR is 28.2 (a mean of PSNR over images cannot lie "
            "below the PSNR of the mean RMSE; the other DSen2-CR rows agree to 0.1 dB)",
        ),
    ),
    Benchmark(
        name="glfcr2022-table1", source="Xu et al. 2022, Table 1", dataset="SEN12MS-CR",
        split="test, 800 patches of each fifth of cloud cover, 4,000 in all; the names are unpublished",
        about="GLF-CR against others, five bins of cover", preset="glfcr2022", table="glfcr2022_table1", marks={"any": SUSPECT},
    ),
    Benchmark(
        name="glfcr2022-table2", source="Xu et al. 2022, Table 2", dataset="SEN12MS-CR", split="as Table 1",
        about="GLF-CR without its parts", preset="glfcr2022", table="glfcr2022_table2", marks={"any": SUSPECT},
        notes=(
            "suspected misprint: SAM 8.1783 stands in two rows (without SAR, without STL)",
            "the text calls the figure with cover levels 'Table 8'; it is Fig. 8 and prints no numbers",
        ),
    ),
    Benchmark(
        name="glfcr2022-table3", source="Xu et al. 2022, Table 3", dataset="SEN12MS-CR", split="as Table 1",
        about="GLF-CR with despeckled SAR", preset="glfcr2022", table="glfcr2022_table3", marks={"any": SUSPECT},
    ),
    Benchmark(
        name="glfcr2022-table4", source="Xu et al. 2022, Table 4", dataset="any",
        split="one scene of 2018-07-17 (S1 of 07-18), references of 07-30, 08-11 and 09-28; not published",
        about="reference images 13, 25 and 72 days away", preset="glfcr2022", table="glfcr2022_table4", by="interval",
    ),
    Benchmark(
        name="ebel2020-table1", source="Ebel et al. 2020, Table I", dataset="SEN12MS-CR", split="none: layers, no scores",
        about="layers of the generator", preset="ebel2020",
        notes=("published: unavailable (the table has no body in the text at hand)",),
    ),
    Benchmark(
        name="ebel2020-table2", source="Ebel et al. 2020, Table II", dataset="SEN12MS-CR", split=_CR_TEST,
        about="share of paired training data against precision, recall and F1", preset="ebel2020",
        notes=("published: unavailable (the table has no body in the text at hand)",),
    ),
    Benchmark(
        name="ebel2020-table3", source="Ebel et al. 2020, Table III", dataset="SEN12MS-CR", split=_CR_TEST,
        about="raw S1 VV, raw S1 VH and raw cloudy S2 as predictions, ablations", preset="ebel2020",
        notes=("published: unavailable (the table has no body in the text at hand)",),
    ),
    Benchmark(
        name="ebel2020-table4", source="Ebel et al. 2020, Table IV", dataset="SEN12MS-CR", split=_CR_TEST,
        about="trained on synthetic clouds, tested on synthetic and on real ones", preset="ebel2020",
        notes=("published: unavailable (the table has no body in the text at hand)",),
    ),
    Benchmark(
        name="darbaghshahi2021-table1", source="Darbaghshahi et al. 2021, Table 1", dataset="SEN1-2",
        split="none: layers, no scores", about="layers of generator and discriminator", preset="darbaghshahi2021",
        notes=("printed in reproduce/darbaghshahi2021-table1",),
    ),
    Benchmark(
        name="darbaghshahi2021-table2", source="Darbaghshahi et al. 2021, Table 2", dataset="SEN1-2",
        split="none: layers, no scores", about="layers of a dilated residual inception block", preset="darbaghshahi2021",
        notes=(
            "printed in reproduce/darbaghshahi2021-table2",
            "D is a transposed convolution in the legend; section 2.1 has dilated convolutions there, which ours are",
        ),
    ),
    Benchmark(
        name="darbaghshahi2021-table3", source="Darbaghshahi et al. 2021, Table 3", dataset="SEN1-2", split="unpublished",
        about="SAR to optical translation", preset="darbaghshahi2021", table="darbaghshahi2021_table3",
    ),
    Benchmark(
        name="darbaghshahi2021-table4", source="Darbaghshahi et al. 2021, Table 4", dataset="SEN1-2", split="unpublished",
        about="cloud removal, cloudy and clear areas apart", preset="darbaghshahi2021", table="darbaghshahi2021_table4",
    ),
    Benchmark(
        name="darbaghshahi2021-table5", source="Darbaghshahi et al. 2021, Table 5", dataset="SEN1-2", split="unpublished",
        about="generators exchanged", preset="darbaghshahi2021", table="darbaghshahi2021_table5",
        notes=("misprint: PSNR of clear areas of U-Net with U-Net is printed as 22.80.87 and left empty here",),
    ),
    Benchmark(
        name="darbaghshahi2021-table6", source="Darbaghshahi et al. 2021, Table 6", dataset="SEN1-2", split="unpublished",
        about="losses exchanged", preset="darbaghshahi2021", table="darbaghshahi2021_table6",
    ),
    Benchmark(
        name="sen12mscrts2022-table1", source="Ebel et al. 2022, Table I", dataset="SEN12MS-CR-TS", split=_TS_TEST,
        about="sequence to point against baselines, three dates", preset="sen12mscrts2022", table="sen12mscrts2022_table1",
        notes=(
            "suspicious: mosaicing PSNR 31.68 beside NRMSE 0.062 (24.2 dB) and the worst SAM of the table: a misprint, or the "
            "published sampler, which may hand the target in as an input; an image copied exactly has an infinite PSNR, which "
            "would also explain the dash in the row of least cloudy",
            "angles are radians; 0.186 rad = 10.66 degrees",
        ),
    ),
    Benchmark(
        name="sen12mscrts2022-table2", source="Ebel et al. 2022, Table II", dataset="SEN12MS-CR-TS", split=_TS_TEST,
        about="with and without SAR", preset="sen12mscrts2022", table="sen12mscrts2022_table2",
    ),
    Benchmark(
        name="sen12mscrts2022-table3", source="Ebel et al. 2022, Table III", dataset="SEN12MS-CR-TS", split=_TS_TEST,
        about="with and without perceptual loss", preset="sen12mscrts2022", table="sen12mscrts2022_table3",
    ),
    Benchmark(
        name="sen12mscrts2022-table4", source="Ebel et al. 2022, Table IV", dataset="SEN12MS-CR-TS", split=_TS_TEST,
        about="three, four and five dates", preset="sen12mscrts2022", table="sen12mscrts2022_table4", by="dates",
        notes=("the caption says sequence-to-sequence; the text and the numbers are of sequence-to-point",),
    ),
    Benchmark(
        name="sen12mscrts2022-table5", source="Ebel et al. 2022, Table V", dataset="SEN12MS-CR-TS", split=_TS_TEST,
        about="ten bins of cover", preset="sen12mscrts2022", table="sen12mscrts2022_table5", by="cover",
        notes=(
            "suspected misprint: NRMSE (cloudy) 0.494 at 50-60 % between 0.048 and 0.052, probably 0.049",
            "90-100 %: no clear pixels, NRMSE (clear) not printed",
        ),
    ),
    Benchmark(
        name="sen12mscrts2022-table6", source="Ebel et al. 2022, Table VI", dataset="SEN12MS-CR-TS",
        split="series, unpublished",
        about="sequence to sequence: the most cloudy mask laid over the least cloudy date", preset="sen12mscrts2022_paper",
        table="sen12mscrts2022_table6", columns={"SAM": "SAM (degrees)"},
        notes=("angles of about 28 can only be degrees; the caption says RMSE where the column says NRMSE",),
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {b.name: b for b in _ALL}


def benchmark(name: str) -> Benchmark:
    """A benchmark by name. Raises UsageError with the names there are."""
    if name not in BENCHMARKS:
        raise UsageError(f"There is no benchmark '{name}'.", why=f"benchmarks are: {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]


def contradicts_itself(row: Published, rmse: str = "RMSE", half_unit: float = 0.0005, psnr_half_unit: float = 0.05) -> bool:
    """Whether a printed PSNR is lower than its printed RMSE allows (range 1), rounding granted on both.

    -log is convex: the mean of PSNR over images is at least the PSNR of the mean RMSE, and equal to it for pooled errors.
    """
    if rmse not in row.numbers or "PSNR" not in row.numbers:
        return False
    least = -20 * np.log10(row.numbers[rmse] + half_unit)
    return bool(row.numbers["PSNR"] + psnr_half_unit < least)
