"""Whether everything that a recipe says has an effect: what would be ignored in silence is refused, by the setting's name."""

from __future__ import annotations

from unclouded.errors import UsageError
from unclouded.models.single_date import SingleDate
from unclouded.models.uncrtaints import UnCRtainTS
from unclouded.models.utilise import UTilise
from unclouded.training.recipe import WHOLE, Data, Loss, Recipe

SEEN = ("perceptual", "style")
TERMS: dict[str, tuple[str, ...]] = {  # by train.task
    "regression": ("l1", "l2", "carl", "ssim", "sam", "nll", "series", *SEEN),
    "paired": ("gan", "l1", "ssim", "simulation", "attention", *SEEN),
    "cycle": ("gan", "cycle", "identity", "cloud_map", "l1", *SEEN),
    "land cover": (),
}
EVERY = tuple(dict.fromkeys(name for names in TERMS.values() for name in names))
GIVERS = {"simulation": ("simulation-fusion", "drib"), "attention": ("spagan",)}  # the networks that make such an image


def check_recipe(recipe: Recipe) -> None:
    """Raises UsageError for a loss term that the task or the network does not know, for no term at all, and for settings of the
    data that change nothing beside the others."""
    task, known = recipe.train.task, TERMS[recipe.train.task]
    given = [name for name in EVERY if getattr(recipe.loss, name)]
    for name in given:
        if name not in known:
            raise _unknown(name, f"train.task = '{task}'", known)
        if name in GIVERS and recipe.model.name not in GIVERS[name]:
            raise _unknown(name, f"the network '{recipe.model.name}'", [k for k in known if k not in GIVERS])
    if known and not given:
        raise UsageError(
            "The recipe has no loss: every weight is 0.", why=f"train.task = '{task}' knows {', '.join(known)}.",
            do="give one of them a weight, such as --set loss.l1=1.",
        )  # fmt: skip
    _check_data(recipe.data)


def _unknown(name: str, of: str, known: object) -> UsageError:
    names = [f"loss.{other}" for other in known] if isinstance(known, list | tuple) else []
    why = f"it knows {', '.join(names)}." if names else "it has a loss of its own."
    return UsageError(f"The term 'loss.{name}' has no effect with {of}.", why=why, do=f"write --set loss.{name}=0.")


def _check_data(data: Data) -> None:
    if data.donors and data.clouds != "cut-out":
        raise UsageError(
            f"The setting 'data.donors' has no effect with data.clouds = '{data.clouds}'.",
            do="write --set data.clouds=cut-out, or leave the donors out.",
        )  # fmt: skip
    if data.kind != "clear":
        return
    if data.clouds == "copied":
        raise UsageError(
            "Copied clouds (data.clouds) are those of a pair's cloudy image; data.kind = 'clear' shows clear images only.",
            do="write --set data.kind=triplets, or --set data.clouds=physical.",
        )  # fmt: skip
    if data.cover != WHOLE:
        raise UsageError(
            "The setting 'data.cover' has no effect with data.kind = 'clear'.",
            do="data.synthetic_cover says how much synthetic clouds hide.",
        )  # fmt: skip


def check_network(recipe: Recipe, remover: SingleDate) -> None:
    """Raises UsageError for a loss term that looks at what the network does not give."""
    loss: Loss = recipe.loss
    if loss.nll and not (isinstance(remover, UnCRtainTS) and remover.config.variances):
        raise UsageError(
            "The term 'loss.nll' is the likelihood of a network that gives a variance.",
            why=f"'{recipe.model.name}' as set here gives none.",
            do="write --set loss.nll=0, or take uncrtaints with model.set.covariance=diag.",
        )  # fmt: skip
    if loss.series and not isinstance(remover, UTilise):
        raise UsageError(
            "The term 'loss.series' is of a network that restores all dates of a series.",
            why=f"'{recipe.model.name}' restores one.", do="write --set loss.series=0, or take utilise.",
        )  # fmt: skip
