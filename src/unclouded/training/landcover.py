"""Training of the VGG16 behind perceptual losses: what covers most of a patch, told from its clear image.

Labels are the land cover of the simulated place, or SEN12MS's (Schmitt et al. 2019) where a root has `ROIs..._lc` folders
beside its `_s2` ones: band 1, IGBP classes, brought to the ten of the 2020 IEEE GRSS data fusion contest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unclouded import raster
from unclouded.bands import L1C
from unclouded.datasets.climates import CLIMATES
from unclouded.datasets.draws import order
from unclouded.datasets.ground import LandCover
from unclouded.datasets.lattice import key
from unclouded.datasets.patches import read_s2
from unclouded.datasets.sen12mscr import SEASONS, SEN12MSCR
from unclouded.datasets.simulated import simulate
from unclouded.errors import InputMissing
from unclouded.models.single_date import build
from unclouded.training.checkpoint import write_whole
from unclouded.training.data import SIMULATED
from unclouded.training.recipe import Data, Recipe
from unclouded.training.task import Task
from unclouded.training.vgg16 import FILE, VGG16, as_encoder, he_normal

IGBP = np.array([0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 6, 8, 9, 10])  # IGBP class 0..17 -> contest class, 0 none
IGBP_CLASSES = 11


class Labelled(NamedTuple):
    """A clear image (C, H, W) in reflectance, what covers most of it, and its name."""

    image: NDArray[np.float32]
    label: int
    name: str


class LabelledSource(Protocol):
    """Anything with a length that gives labelled images by number."""

    classes: int

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Labelled: ...


class SimulatedLand:
    """Clear images of simulated places, labelled by their commonest land cover."""

    classes = len(LandCover) + 1

    def __init__(self, data: Data, seed: int) -> None:
        self.data, self.seed = data, seed
        self.made: dict[int, Labelled] = {}

    def __len__(self) -> int:
        return self.data.count

    def __getitem__(self, i: int) -> Labelled:
        """Image i."""
        if i not in self.made:
            self.made[i] = self._make(i)
        return self.made[i]

    def _make(self, i: int) -> Labelled:
        draw = np.random.default_rng(key(self.seed, "land", i))
        size, season = self.data.size, str(draw.choice(list(SEASONS.values())))
        place = simulate(
            seed=key(self.seed, "land place", i), size=(size, size), dates=[season], level="L1C", cover=0.0,
            climate=list(CLIMATES)[i % len(CLIMATES)], s1=False,
        )  # fmt: skip
        return Labelled(place.truth[0], int(np.bincount(place.landcover.ravel()).argmax()), place.sample.place.id)


class SEN12MSLand:
    """The clear images of a SEN12MS root, labelled by SEN12MS. Raises InputMissing where a label file is not there."""

    classes = IGBP_CLASSES

    def __init__(self, root: Path, split: Any) -> None:
        self.inner = SEN12MSCR(root, split=split, s1=False)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> Labelled:
        """Image i."""
        patch = self.inner.patches[i]
        image, _ = read_s2(self.inner.root / patch.path("s2"), L1C, L1C)
        path = self.inner.root / patch.path("s2").replace("_s2", "_lc").replace("/s2_", "/lc_")
        with raster.open_raster(path) as file:
            igbp = np.clip(raster.read(file, [1])[0], 0, len(IGBP) - 1).astype(int)
        return Labelled(image.values, int(np.bincount(IGBP[igbp].ravel()).argmax()), str(patch))

    def digest(self) -> str:
        """sha256 of the list."""
        return hashlib.sha256("\n".join(str(patch) for patch in self.inner.patches).encode()).hexdigest()


def open_land(data: Data, root: str, seed: int, split: Any) -> LabelledSource:
    """Labelled images of a folder, or of the simulated place. Raises InputMissing."""
    if root == SIMULATED:
        return SimulatedLand(data, key(seed, split))
    if not any(Path(root).glob("ROIs*_lc")):
        raise InputMissing(
            "There are no land-cover labels here.", where=root, why="looked for ROIs<number>_<season>_lc folders.",
            do=f"put SEN12MS's lc folders beside the s2 ones, or train on `{SIMULATED}`.",
        )  # fmt: skip
    return SEN12MSLand(Path(root), split)


class LandSteps:
    """What step s sees: images (B, C, H, W), labels (B,), names."""

    def __init__(self, source: LabelledSource, *, batch: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self.source, self.seed, self.rank, self.ranks = source, seed, rank, ranks
        self.count = len(source)
        self.batch = min(batch, self.count)
        self.per_epoch = max(1, self.count // self.batch)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        epoch, k = divmod(step, self.per_epoch)
        chosen = order(self.count, seed=self.seed, epoch=epoch)[k * self.batch : (k + 1) * self.batch]
        items = [self.source[int(i)] for i in chosen[self.rank :: self.ranks]]
        images = torch.from_numpy(np.stack([item.image for item in items])).clamp(0, 1)
        return images, torch.tensor([item.label for item in items]), tuple(item.name for item in items)


class LandCoverTask(Task):
    """Cross-entropy of the commonest class."""

    def __init__(self, recipe: Recipe, folder: Path, classes: int) -> None:
        super().__init__(recipe, folder)
        width = int(recipe.model.set.get("width", 64))
        self.trained = build(lambda: VGG16(len(L1C), classes=classes, width=width))
        he_normal(self.trained, recipe.train.seed)

    def step(self, shown: tuple[Tensor, Tensor, tuple[str, ...]]) -> dict[str, Tensor]:
        """See Task."""
        images, labels, names = shown
        with self.arithmetic():
            logits = self.network.classify(images.to(self.device)).float()
        terms = {"cross-entropy": torch.nn.functional.cross_entropy(logits, labels.to(self.device))}
        self.update(0, terms, names)
        return terms

    @property
    def network(self) -> VGG16:
        """The classifier."""
        assert isinstance(self.trained, VGG16)
        return self.trained

    def accuracy(self, source: LabelledSource, most: int) -> float:
        """The share of the first `most` images that is told right."""
        right = []
        with self.as_saved(), torch.no_grad():
            for i in range(min(most, len(source))):
                item = source[i]
                image = torch.from_numpy(item.image[None]).clamp(0, 1).to(self.device)
                right.append(int(self.network.classify(image).argmax()) == item.label)
        return float(np.mean(right))

    def export(self, folder: Path, notes: Mapping[str, Any]) -> Path:
        """vgg16.safetensors, and encoder.safetensors for networks that learn a series from itself."""
        from safetensors.torch import save

        with self.as_saved():
            state = {k: v.detach().cpu().clone().contiguous() for k, v in self.network.state_dict().items()}
        path = folder / FILE
        write_whole(path, save(state, metadata={k: str(v) for k, v in notes.items()}))
        write_whole(folder / "encoder.safetensors", save({k: v.clone() for k, v in as_encoder(state).items()}))
        return path
