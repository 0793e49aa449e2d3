"""Pictures and report: true numbers in them, nothing external, and hostile names stay text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from products.made import DATE, finish, guess_of, mixed, single
from unclouded.products.fill import Guess, fill
from unclouded.products.preview import (
    Look,
    composite,
    glimpse,
    heat,
    percent,
    sigma_picture,
    sigma_top,
    source_picture,
    step_for,
    stretched,
)
from unclouded.products.report import chart, data_uri, flat, headline, probe_rows
from unclouded.sample import Cover, Source

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def look_of(scene, guess=None, block=24, step=1) -> Look:
    look = Look.empty(scene.shape, scene.place.bands, step)
    layers = scene.source.layers(0)
    for at in scene.blocks(block):
        part = fill(scene, DATE, at, scene.masks[0][at.slices], guess_of(scene, at) if guess is None else guess)
        parts = glimpse(part, layers, scene.place.bands, step)
        assert [(str(p.dtype), p.shape) for p in parts] == list(look.parts(at))
        look.add(at, parts)
    return look


def test_hostile_names_stay_text_and_nothing_is_external(tmp_path):
    scene = mixed(40, 40)
    scene = replace(
        scene, place=replace(scene.place, id=HOSTILE),
        decisions={"warnings": [HOSTILE], "files": [HOSTILE], HOSTILE: {"band": HOSTILE}},
    )  # fmt: skip
    made = finish(tmp_path, scene, job={"model": HOSTILE})
    page = Tags(made.files["report"].read_text())
    assert [tag for tag, _ in page.seen].count("script") == 1 and [tag for tag, _ in page.seen].count("img") == 4
    assert not any(name.startswith("on") for _, attrs in page.seen for name in attrs)
    for tag, attrs in page.seen:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert name not in attrs or attrs[name].startswith("data:image/"), (tag, name)
    assert "".join(page.texts).count("<script>alert(1)</script>") >= 5
    text = made.files["report"].read_text()
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    policy = next(attrs["content"] for tag, attrs in page.seen if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert made.folder.name == "2020-06-01" and "/" not in made.id and "<" not in made.id


def test_the_report_tells_the_true_numbers(tmp_path):
    scene = mixed(60, 60)
    made = finish(tmp_path, scene)
    text = " ".join("".join(Tags(made.files["report"].read_text()).texts).split())
    pixels = made.manifest["pixels"]
    held = sum(pixels.values()) - pixels["nodata"]
    assert f"{percent(pixels['observed'] / held)}observed, kept bit for bit" in text
    assert percent((held - pixels["observed"] - pixels["refused"]) / held) in text and made.manifest["digest"] in text
    assert "0.0100" in text and "modelmade" in text.replace(" ", "")


@pytest.mark.parametrize("step", [1, 2, 3, 8])
def test_glimpses_put_together_are_the_means_of_the_scene(step):
    scene = mixed(50, 43, 3)
    look = look_of(scene, step=step)
    whole = fill(scene, DATE, scene.window, scene.masks[0], guess_of(scene, scene.window))
    red = whole.clear[0][2].astype(float)
    for r, c in ((0, 0), (1, 2), (look.source.shape[0] - 1, look.source.shape[1] - 1)):
        cell = red[r * step : (r + 1) * step, c * step : (c + 1) * step]
        cell = cell[cell > 0]
        expected = (cell.mean() - 1000) / 10_000 if cell.size else np.nan
        assert look.after[0, r, c] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert look.source.shape == (-(-50 // step), -(-43 // step))


def test_spectra_are_the_means_over_the_classes():
    scene = mixed(36, 36, 5)
    look = look_of(scene)
    clear = scene.masks[0] == Cover.CLEAR
    before, after = look.spectra([Cover.CLEAR])
    at = scene.place.bands.index("B03")
    expected = (scene.source.dn[0][1][clear].mean() - 1000) / 10_000
    assert before[at] == pytest.approx(expected, abs=1e-6) and after[at] == pytest.approx(expected, abs=1e-6)
    thick = scene.masks[0] == Cover.THICK
    guess = guess_of(scene, scene.window).s2[at]
    kept = thick & np.isfinite(guess)
    assert look.spectra([Cover.THICK])[1][at] == pytest.approx(guess[kept].mean(), abs=1e-4)


def test_pixels_without_data_never_show_whatever_they_hold():
    classes = np.full((12, 12), Cover.CLEAR, np.uint8)
    classes[:4] = Cover.NODATA
    dn = np.full((3, 12, 12), 0.2, np.float32)
    dn[:, :4] = 1e30
    scene = single(dn, classes, quantification=1.0, offset=(0.0,) * 3)
    look = look_of(scene, Guess(s2=dn), block=12)
    assert np.isnan(look.before[:, :4]).all() and np.isnan(look.after[:, :4]).all()
    assert look.spectra([Cover.CLEAR])[0].tolist() == pytest.approx([0.2] * 3)
    before, after = stretched(look)
    assert (before[:4, :, 3] == 0).all() and (before[4:, :, 3] == 255).all() and (after[:4, :, 3] == 0).all()


def test_before_and_after_share_one_stretch():
    scene = mixed(48, 48, 2)
    before, after = stretched(look_of(scene))
    clear = scene.masks[0] == Cover.CLEAR
    np.testing.assert_array_equal(before[clear], after[clear])


def test_sigma_of_cloud_rims_is_that_of_the_rebuilt_pixels():
    classes = np.full((4, 4), Cover.CLEAR, np.uint8)
    classes[0, 0] = Cover.THICK
    scene = single(np.full((3, 4, 4), 3000, np.uint16), classes)
    guess = Guess(s2=np.full((3, 4, 4), 0.2, np.float32)).with_sigma(np.array([0.02, 0.04, 0.06]))
    look = look_of(scene, guess, block=4, step=2)
    assert look.sigma.tolist() == [[pytest.approx(0.04), 0], [0, 0]]
    assert sigma_top(look) == pytest.approx(0.04)
    picture = sigma_picture(look)
    assert picture[0, 0, :3].tolist() == heat(np.array(1.0)).tolist() and picture[1, 1, :3].tolist() == [222, 224, 220]
    assert source_picture(look).shape == (2, 2, 4)


@pytest.mark.parametrize(
    ("shape", "block", "step"), [((10, 10), 768, 1), ((1400, 3), 768, 1), ((1401, 3), 768, 2), ((10_980, 10_980), 768, 8)]
)
def test_steps_divide_the_block_and_bring_the_scene_to_size(shape, block, step):
    assert step_for(shape, block) == step


def test_composites():
    assert composite(("B02", "B03", "B04", "B08")) == (2, 1, 0)
    assert composite(("B04", "B03", "B08")) == (2, 0, 1)
    assert composite(("B11",)) == (0, 0, 0) and composite(("B05", "B06")) == (0, 1, 1)


def test_pictures_are_embedded_losslessly_where_small():
    import base64
    import io

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 4), np.uint8)
    kind, data = data_uri(picture, photo=True).split(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), picture)
    assert data_uri(np.zeros((800, 800, 4), np.uint8), photo=True).startswith("data:image/jpeg")


def test_the_chart_lies_inside_its_frame():
    drawn = chart(look_of(mixed(40, 40, 1)))
    assert len(drawn.lines) == 3 and [len(line.points) for line in drawn.lines] == [6, 6, 6]
    xs, ys = zip(*(point for line in drawn.lines for point in line.points), strict=True)
    assert min(xs) >= 46 and max(xs) <= 620 and min(ys) >= 16 and max(ys) <= 260
    assert [round(x) for x, _ in drawn.lines[0].points] == sorted(round(x) for x, _ in drawn.lines[0].points)
    assert re.fullmatch(r"[\d. ,]+", drawn.lines[0].path)


def test_probe_rows_and_headlines_survive_missing_numbers():
    pixels = {s.name.lower(): 0 for s in Source}
    assert headline({"pixels": pixels, "probe": None})[0] == ("observed, kept bit for bit", "0 %")
    told = dict(
        headline(
            {
                "pixels": pixels | {"observed": 6, "dates": 3, "refused": 1},
                "probe": {"rmse": [0.01, 0.03], "coverage": [0.9, 0.8]},
            }
        )
    )
    assert told["rebuilt"] == "30.0 %" and told["left hidden"] == "10.0 %"
    assert told["measured error (RMSE, reflectance)"] == "0.0200" and told["coverage of the 90 % interval"] == "85.0 %"
    assert probe_rows({"rmse": [0.01, 0.02], "coverage": [0.91, None]}, ["B02", "B03"])[1] == (
        "B03",
        ["0.0200", "–", "–", "–", "–"],
    )
    assert probe_rows(None, ["B02"]) == []


def test_nested_facts_become_rows():
    rows = list(flat({"s1": {"pairs": [{"gap": 1}, {"gap": 2.5}], "none": []}, "ok": True, "list": [1, 2]}))
    assert rows == [
        ("s1 › pairs › 1 › gap", "1"),
        ("s1 › pairs › 2 › gap", "2.5"),
        ("s1 › none", "none"),
        ("ok", "yes"),
        ("list", "1, 2"),
    ]
