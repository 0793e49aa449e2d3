from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from unclouded.errors import UsageError
from unclouded.evaluation.benchmarks import BENCHMARKS, benchmark, contradicts_itself
from unclouded.evaluation.presets import PRESETS, Crop, preset
from unclouded.metrics.areas import AREAS, FIFTHS
from unclouded.metrics.pixel import Mae, Psnr
from unclouded.metrics.spectral import Sam
from unclouded.metrics.structural import WINDOWS, Ssim, Window

NAMES = (
    "meraner2020", "glfcr2022", "sen12mscrts2022", "ebel2020", "darbaghshahi2021", "uncrtaints2023", "utilise2023",
    "unclouded-v1",
)  # fmt: skip


def test_the_promised_presets_are_there_and_differ():
    assert set(NAMES) <= set(PRESETS)
    digests = [p.digest for p in PRESETS.values()]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_rows_are_distinct_and_look_at_known_areas(name):
    rows = PRESETS[name].rows
    assert len({row.name for row in rows}) == len(rows)
    assert {row.area for row in rows} <= set(AREAS)


CHANGES = {
    "bands": ("B04",), "clip": None, "scale": 2.0, "preview": True, "crop": Crop("centre", 64), "mask": "tum",
    "mask_on": "crop", "refused": "skip", "cover_edges": FIFTHS, "neighbours": 5,
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_every_convention_changes_the_digest(field):
    v1 = preset("unclouded-v1")
    assert replace(v1, **{field: CHANGES[field]}).digest != v1.digest
    assert {f.name for f in fields(v1)} == set(CHANGES) | {"name", "source", "notes", "rows"}  # none forgotten here


ROW_CHANGES = {
    "name": "other", "metric": Mae(), "area": "hidden", "against": "input", "pooled": 0, "without": ("B10",), "clipped": False,
    "unit": "dB2", "better": "lower",
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(ROW_CHANGES))
def test_every_convention_of_a_row_changes_the_digest(field):
    v1 = preset("unclouded-v1")
    changed = replace(v1.rows[0], **{field: ROW_CHANGES[field]})
    assert {f.name for f in fields(changed)} == set(ROW_CHANGES)
    assert replace(v1, rows=(changed, *v1.rows[1:])).digest != v1.digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Psnr(), Psnr(equal=100.0)), (Psnr(), Psnr(peak=2.0)), (Sam(), Sam("radians")), (Sam(), Sam(zeros="nan")),
        (Ssim(), Ssim("zero")), (Ssim(), Ssim(k2=0.05)), (Ssim(), Ssim(sample=True)), (Ssim(), Ssim(floor=0.0)),
    ],
)  # fmt: skip
def test_every_convention_of_a_metric_changes_the_digest(one, other):
    v1 = preset("unclouded-v1")
    pair = [replace(v1, rows=(replace(v1.rows[0], metric=metric),)).digest for metric in (one, other)]
    assert pair[0] != pair[1]


def test_a_window_counts_by_what_it_is(monkeypatch):
    before = preset("glfcr2022").digest
    monkeypatch.setitem(WINDOWS, "zero_off_centre", Window(border="zero", centre=5.0))
    assert preset("glfcr2022").digest != before


def test_words_about_a_preset_do_not_count():
    v1 = preset("unclouded-v1")
    assert replace(v1, name="x", source="y", notes=()).digest == v1.digest


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(UsageError, match="unclouded-v1"):
        preset("nobody")
    with pytest.raises(UsageError, match="glfcr2022-table1"):
        benchmark("nobody")
    with pytest.raises(UsageError, match="PSNR"):
        preset("glfcr2022").row("F2")


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_published_columns_are_rows_of_the_preset(name):
    record = BENCHMARKS[name]
    known = {row.name for row in preset(record.preset).rows}
    for row in record.published() or ():
        assert row.numbers and set(row.numbers) <= known, row


def test_every_table_of_the_papers_has_a_record():
    assert {
        "meraner2020-table1", *(f"glfcr2022-table{n}" for n in (1, 2, 3, 4)), *(f"ebel2020-table{n}" for n in (2, 3, 4)),
        *(f"darbaghshahi2021-table{n}" for n in (3, 4, 5, 6)), *(f"sen12mscrts2022-table{n}" for n in (1, 2, 3, 4, 5, 6)),
    } <= set(BENCHMARKS)  # fmt: skip


PRINTED = [
    ("meraner2020-table1", "DSen2-CR on CARL", {"MAE target": 0.0290, "MAE reprod": 0.0204, "MAE recon": 0.0266}),
    ("meraner2020-table1", "DSen2-CR on CARL", {"PSNR": 28.7, "SAM reprod": 3.94, "SSIM": 0.875}),
    ("meraner2020-table1", "pix2pix", {"RMSE": 0.0424, "SAM target": 13.68, "SAM recon": 12.67}),
    ("glfcr2022-table1", "GLF-CR", {"PSNR": 29.0793, "SSIM": 0.8855, "SAM": 7.6455, "MAE": 0.0266}),
    ("glfcr2022-table2", "without DF", {"PSNR": 28.2867, "SAM": 7.9853}),
    ("glfcr2022-table3", "with despeckled SAR", {"PSNR": 28.5377}),
    ("glfcr2022-table4", "DSen2-CR (72 days)", {"PSNR": 25.1544, "MAE": 0.0382}),
    ("darbaghshahi2021-table3", "DRIB GAN", {"PSNR": 19.4495, "SSIM": 0.4453}),
    ("darbaghshahi2021-table4", "Grohnfeldt 2018", {"PSNR": 19.2701, "PSNR cloudy": 15.9657, "PSNR non-cloudy": 22.7272}),
    ("darbaghshahi2021-table6", "removal SSIM and translation SSIM", {"SSIM": 0.6694, "PSNR cloudy": 18.5796}),
    ("sen12mscrts2022-table1", "mosaicing", {"NRMSE (all)": 0.062, "PSNR": 31.68, "SAM": 0.250}),
    ("sen12mscrts2022-table2", "seq2point (no S1)", {"PSNR": 25.35}),
    ("sen12mscrts2022-table3", "seq2point (no perceptual loss)", {"SAM": 0.180}),
    ("sen12mscrts2022-table4", "seq2point (n=5)", {"NRMSE (clear)": 0.032, "SSIM": 0.846}),
    ("sen12mscrts2022-table5", "seq2point (50-60 %)", {"NRMSE (cloudy)": 0.494}),
    ("sen12mscrts2022-table6", "OSTD", {"NRMSE (all)": 0.303, "SAM (degrees)": 35.454}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "numbers"), PRINTED)
def test_numbers_stand_as_printed(name, method, numbers):
    row = next(r for r in BENCHMARKS[name].published() if r.method == method)
    assert numbers.items() <= dict(row.numbers).items()


def test_what_was_not_printed_is_absent():
    rows = {r.method: r.numbers for r in BENCHMARKS["sen12mscrts2022-table5"].published()}
    assert "NRMSE (clear)" not in rows["seq2point (90-100 %)"]
    assert "PSNR" not in {r.method: r.numbers for r in BENCHMARKS["sen12mscrts2022-table1"].published()}["least cloudy"]
    misprint = {r.method: r.numbers for r in BENCHMARKS["darbaghshahi2021-table5"].published()}
    assert "PSNR non-cloudy" not in misprint["removal U-Net and translation U-Net"]


def test_tables_without_a_body_have_no_number():
    for name in ("ebel2020-table2", "ebel2020-table3", "ebel2020-table4"):
        assert BENCHMARKS[name].published() is None
        assert any("published: unavailable" in note for note in BENCHMARKS[name].notes)


def test_one_printed_row_contradicts_itself():
    """A mean PSNR cannot lie below the PSNR of the mean RMSE. Of 33 printed rows with both, one does; its note says so."""
    found, count = [], 0
    for record in BENCHMARKS.values():
        for row in record.published() or ():
            for column, half in (("RMSE", 0.00005), ("NRMSE (all)", 0.0005)):
                count += column in row.numbers and "PSNR" in row.numbers
                if contradicts_itself(row, column, half):
                    found.append((record.name, row.method))
    assert found == [("meraner2020-table1", "DSen2-CR on CARL without SAR")]
    assert count == 33


def test_splits_add_up_to_the_leak():
    marks = BENCHMARKS["sen12mscr"].marks
    assert "6 of 10" in marks["ECRformer"] and "60.3 %" in marks["ECRformer"]
    np.testing.assert_allclose((784 + 781 + 850 + 783 + 782 + 784) / 7899, 0.603, atol=5e-4)
