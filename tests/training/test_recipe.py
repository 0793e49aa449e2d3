"""Recipes: every published row is there with its numbers, and what is written wrongly is named."""

from __future__ import annotations

import pytest

from unclouded.errors import InputMissing, UsageError
from unclouded.training.begin import build_remover, config_of
from unclouded.training.recipe import Schedule, checked, differences, overview, read_recipe, recipes

ROWS = {  # recipe: a number of its row in the paper
    "dsen2cr-carl": ("psnr", 28.7), "dsen2cr-l1": ("psnr", 29.3), "dsen2cr-carl-no-sar": ("psnr", 27.6),
    "dsen2cr-l1-no-sar": ("psnr", 28.8), "drib": ("psnr", 23.0941), "drib-no-translation": ("psnr", 16.5430),
    "drib-drib-unet": ("psnr", 21.8911), "drib-unet-drib": ("psnr", 22.6575), "drib-l1-l1": ("psnr", 20.4185),
    "drib-ssim-l1-on-l1": ("psnr", 21.3423), "drib-ssim-ssim": ("psnr", 21.8548), "drib-l1-on-ssim-l1": ("psnr", 22.0853),
    "drib-sar2opt": ("psnr", 19.4495), "glfcr": ("psnr", 29.0793), "glfcr-concat": ("psnr", 28.5324),
    "glfcr-no-sar": ("psnr", 28.3657), "glfcr-no-stl": ("psnr", 28.5079), "glfcr-no-gf": ("psnr", 28.4983),
    "glfcr-no-df": ("psnr", 28.2867), "glfcr-despeckled": ("psnr", 28.5377), "spagan": ("sam", 16.0454),
    "sar2opt": ("psnr", 25.7223), "sar-opt-cgan": ("psnr", 25.2948), "simulation-fusion": ("psnr", 24.5519),
    "resnet-mono": ("psnr", 26.04), "stgan": ("psnr", 25.42), "seq2point": ("psnr", 26.68), "seq2point-4": ("psnr", 27.10),
    "seq2point-5": ("psnr", 27.07), "seq2point-no-sar": ("psnr", 25.35), "seq2point-no-perceptual": ("psnr", 26.66),
}  # fmt: skip


@pytest.fixture(scope="module")
def all_recipes():
    return recipes()


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_papers_has_a_recipe_with_its_number(all_recipes, name):
    metric, value = ROWS[name]
    assert all_recipes[name].source.published[metric] == value


def test_every_recipe_names_its_paper_and_what_was_assumed(all_recipes):
    assert len(all_recipes) >= 55
    for name, recipe in all_recipes.items():
        assert recipe.name == name and recipe.summary and recipe.source.assumed, name
        assert recipe.source.paper.split(" et al. ")[1] in {"2020", "2021", "2022", "2023"}
        assert recipe.source.table or name in ("uncrtaints", "utilise") or name.startswith("uncrtaints"), name
        if recipe.train.task != "land cover":
            config_of(recipe.model)
            assert any(v for k, v in recipe.loss.model_dump().items() if k not in ("carl_lambda", "gan_kind")), name


def test_numbers_are_not_inherited(all_recipes):
    assert all_recipes["dsen2cr-carl-lambda-2"].source.published == {}
    assert "psnr_clear" not in all_recipes["drib-unet-unet"].source.published  # misprinted in the paper


def test_settings_of_the_papers(all_recipes):
    meraner, xu, ebel = all_recipes["dsen2cr-carl"], all_recipes["glfcr"], all_recipes["seq2point"]
    how = meraner.train
    assert (how.optimizer, how.rate, how.batch, meraner.loss.carl_lambda) == ("nadam", 7e-5, 16, 1)
    assert (xu.train.rate, xu.train.batch, xu.train.epochs, xu.data.crop, xu.loss.l1) == (1e-4, 12, 30, 128, 1)
    assert (ebel.train.freeze, ebel.train.freeze_steps) == (("model_initial",), 25000)
    assert (ebel.loss.l1, ebel.loss.perceptual, ebel.train.betas) == (100, 1, (0.5, 0.999))
    assert [all_recipes[f"dsen2cr-carl-lambda-{v}"].loss.carl_lambda for v in ("0", "0.5", "2", "5")] == [0, 0.5, 2, 5]
    assert [all_recipes[f"cyclegan-ours-{p}"].data.paired for p in (0, 25, 50, 75, 100)] == [0, 0.25, 0.5, 0.75, 1]
    assert all_recipes["cyclegan-no-map"].data.mask == "ones"
    cycle = all_recipes["cyclegan-ours-0"]
    assert (cycle.loss.gan, cycle.loss.cycle, cycle.loss.identity, cycle.loss.cloud_map, cycle.loss.pool) == (5, 10, 1, 10, 50)
    assert all_recipes["drib"].train.rate == 2e-4 and any("2^-4" in line for line in all_recipes["drib"].source.assumed)


def test_schedules_by_hand(all_recipes):
    pix2pix = all_recipes["pix2pix"].train.schedule  # 1 - max(0, 2 + epoch - 5) / 6
    assert [pix2pix.factor(e) for e in (0, 3, 4, 6, 9)] == pytest.approx([1, 1, 5 / 6, 3 / 6, 0])
    cycle = all_recipes["cyclegan-ours-0"].train.schedule  # 1 - max(0, 1 + n - 50) / 26
    assert [cycle.factor(e) for e in (0, 49, 50, 74)] == pytest.approx([1, 1, 25 / 26, 1 / 26])
    assert [all_recipes["glfcr"].train.schedule.factor(e) for e in (0, 4, 5, 29)] == [1, 1, 0.5, 0.5**5]
    assert Schedule().factor(99) == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.ephocs=3", "did you mean train.epochs"),
        ("train.schedule.evry=3", "did you mean train.schedule.every"),
        ("loss.perceptul=1", "did you mean loss.perceptual"),
        ("data.zzz=1", "there are: kind"),
        ("trian.epochs=1", "did you mean train?"),
        ("train.epochs=many", "'train.epochs' cannot be 'many'"),
        ("train.optimizer=adma", "'adam'"),
        ("data.paired=1.5", "less than or equal to 1"),
        ("train.batch", "has no value"),
    ],
)
def test_a_typo_is_named_with_the_nearest_setting(override, words):
    with pytest.raises(UsageError) as error:
        read_recipe("dsen2cr-carl", [override])
    assert words in str(error.value)


def test_a_typo_in_the_model_and_in_the_name():
    with pytest.raises(UsageError, match=r"did you mean model\.set\.features"):
        config_of(read_recipe("dsen2cr-carl", ["model.set.feature=3"]).model)
    for name, wrong, words in (
        ("glfcr", "variant=as-published", "did you mean as_published"), ("glfcr", "ablation=no_gf", "one of: full"),
        ("seq2point", "output=tanh", "setting 'model.set.output'"), ("dsen2cr-carl", "blocks=16.5", "valid integer"),
        ("stgan", "choose=clear", "did you mean clearest"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            config_of(read_recipe(name, [f"model.set.{wrong}"]).model)
    with pytest.raises(UsageError, match="16 channels cannot be shared among 3 heads"):
        build_remover(read_recipe("glfcr", ["model.set.growth=16", "model.set.heads=3", "model.set.blocks=1"]))
    with pytest.raises(InputMissing, match="dsen2cr-carl"):
        read_recipe("dsen2cr-crl")


def test_a_recipe_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "dsen2cr-l1"\nsummary = "mine"\n[train]\nbatch = 2\n')
    mine = read_recipe(path, ["train.rate=1e-3", 'data.mask="tum"'])
    assert (mine.name, mine.train.batch, mine.train.rate, mine.data.mask, mine.loss.l1) == ("mine", 2, 1e-3, "tum", 1)
    path.write_text("base = ")
    from unclouded.training.recipe import _text

    _text.cache_clear()
    with pytest.raises(UsageError, match="not valid TOML"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'base = "quick-start"\n[train]\nrate = 1e-\xff', "cannot be read as text (UTF-8)"),
        (b'base = "ITSELF"', "starts from itself"),
        (b"base = 3", "'base' cannot be 3"),
        (b"base = 3\nsource = 3", "'base' cannot be 3"),
        (b'base = "BAD"', "'source' cannot be 3"),
        (b'base = "nowhere"', "no recipe 'nowhere'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_explained(text, words, tmp_path):
    path, bad = tmp_path / "mine.toml", tmp_path / "bad.toml"
    bad.write_text('source = 3\nbase = "quick-start"')
    path.write_bytes(text.replace(b"ITSELF", str(path).encode()).replace(b"BAD", str(bad).encode()))
    with pytest.raises((UsageError, InputMissing)) as error:
        read_recipe(path)
    assert words in str(error.value)


def test_two_recipes_that_start_from_each_other(tmp_path):
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    a.write_text(f'base = "{b}"')
    b.write_text(f'base = "{a}"')
    with pytest.raises(UsageError, match=r"a\.toml starts from .*b\.toml starts from .*a\.toml"):
        read_recipe(a)


def test_masks_of_ebel_2022_and_the_rate_of_uncrtaints(all_recipes):
    ebel = [r for r in all_recipes.values() if r.source.paper == "Ebel et al. 2022" and r.data.kind == "series"]
    assert len(ebel) >= 5 and {r.data.mask for r in ebel} == {"s2cloudless"}
    for name in ("uncrtaints", "uncrtaints-as-published", "uncrtaints-l1", "uncrtaints-mono"):
        assert [all_recipes[name].train.schedule.factor(e) for e in (0, 5, 19)] == [1, 1, 1]
    assert {r.train.weight_decay for r in all_recipes.values()} == {0}


def test_the_digest_and_the_differences():
    a, b = read_recipe("glfcr"), read_recipe("glfcr", ["train.batch=3"])
    assert a.digest() == read_recipe("glfcr").digest() != b.digest()
    assert differences(a.model_dump(), b.model_dump()) == ["train.batch was 12, is 3"]
    assert checked(a.model_dump(mode="json")) == a


def test_the_list():
    rows = {row["recipe"]: row for row in overview()}
    assert rows["glfcr-concat"]["table"] == "Table 1 and 2" and rows["glfcr-concat"]["row"] == "Concat"
