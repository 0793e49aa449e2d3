"""Internal learning: a network fitted to the very series that it restores (Ebel et al. 2022, sections III-B and IV-D).

P. Ebel, Y. Xu, M. Schmitt, X. X. Zhu: SEN12MS-CR-TS (IEEE TGRS 2022), Fig. 8, Algorithm 1 and equations 4-6; after D. Ulyanov
et al.: Deep image prior (CVPR 2018) and H. Zhang et al.: An internal learning approach to video inpainting (ICCV 2019). A 3-D
U-Net is driven by radar, or by Gaussian noise, and learns to give the clear pixels of all dates; it learns the regular before
the irregular, so what it gives for the hidden pixels follows the rest. No weights, no other images.

    L = |S2 (1 - m) - S2' (1 - m)|^2 + 0.01 |F(S2) (1 - m) - F(S2') (1 - m)|^2

The paper's F is a VGG16 for 13 bands whose weights are not published. Without weights the second term is off
(`perceptual="off"`); `perceptual="random"` takes features of a fixed random encoder, and a file name one of your own.

Ours: some clear blocks are held out to tell when to stop; a date's result is the running mean of the network's outputs that
told the held-out blocks best; windows of dates overlap, and their results are averaged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unclouded.errors import UsageError
from unclouded.models.internal_network import Network
from unclouded.models.needs import Needs
from unclouded.models.scaling import BOTH_25, scale_radar
from unclouded.models.scene_solver import Bools, Choose, Cube, Floats, SceneSolver
from unclouded.models.single_date import FILL_DB, has_bfloat16
from unclouded.models.start import framework_default
from unclouded.models.vgg import Encoder, encoder

Progress = Callable[[int, int, float], None]  # (iterations done, at most, RMSE of the held-out pixels)

BLOCK = 8  # pixels: the side of the blocks that are held out
CHECK = 10  # iterations between two looks at the output
KEEP = 0.8  # of the running mean, at every look
DEEPEST = 4  # pixels: the least side of the deepest features


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: windows of 5 dates, 20 passes of 100 iterations, Adam 0.01, weights 1 and 0.01.

    - `as_published`: radar or noise alone drives the network, the noise is another for every date, norms look at hidden pixels
      too, and what lies beyond the first date, the last date and the image is 0. What is hidden on all dates, or a date hidden
      as a whole, is then anything. Ours: the noise is the same for all dates, a further channel holds the day, norms look at
      clear pixels, first and last dates are repeated, sums at the image's border are as large as inside, and the loss holds
      neighbouring dates together where one is hidden, by the weight `quiet` (Zhang et al. 2019 do so along the optical flow).
    - `drive`: radar (`s1`), noise, or radar where there is some (`auto`); `jitter`: noise added to the input at each iteration.
    - `dates`: how many take part; `window`, `shared`: dates fitted together, and how many of them two windows share.
    - `widths`: features per level of the U-Net, the image halved between levels.
    - `held_out`: share of the clear blocks kept for stopping; `patience`: passes without a better one before it stops.
    - `arithmetic`: bfloat16 where the processor computes with it, or always float32.
    """

    as_published: bool = False
    drive: Literal["auto", "s1", "noise"] = "auto"
    dates: int = 5
    choose: Choose = "nearest"
    window: int = 5
    shared: int = 2
    passes: int = 20
    iterations: int = 100
    rate: float = 0.01
    widths: tuple[int, ...] = (16, 32, 64, 128, 128)
    noise_channels: int = 8
    jitter: float = 0.03
    quiet: float = 0.1
    perceptual: str = "off"
    perceptual_weight: float = 0.01
    held_out: float = 0.1
    patience: int = 4
    arithmetic: Literal["auto", "float32"] = "auto"
    cell: int = 256
    overlap: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.shared < self.window or not 0 <= self.held_out < 1 or self.passes < 1 or self.iterations < 1:
            raise UsageError(
                "These settings of internal learning do not go together.",
                why="0 <= shared < window, 0 <= held_out < 1, and at least one pass of one iteration are needed.",
            )

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(passes=2, iterations=10, widths=(8, 8), cell=24, overlap=8)


class InternalLearning(SceneSolver):
    """The remover. `progress` is told after every look at the output."""

    def __init__(self, config: Config | None = None, *, progress: Progress | None = None) -> None:
        self.config = c = Config() if config is None else config
        sar: Literal["required", "optional", "unused"] = "optional"
        if c.drive != "auto":
            sar = "required" if c.drive == "s1" else "unused"
        self.needs = Needs(dates=(2, None), sar=sar, masks="everywhere")
        self.cell, self.overlap, self.dates, self.choose = c.cell, c.overlap, c.dates, c.choose
        self.radar = c.drive != "noise"
        self.progress = progress

    def _copy(self) -> InternalLearning:
        return copy.copy(self)

    def solve(self, cube: Cube) -> tuple[Floats, Bools]:
        """All dates as the fitted network gives them; NaN where the cube has no clear pixel at all."""
        everything = np.ones(len(cube.days), bool)
        if not cube.clear.any():
            return np.full_like(cube.x, np.nan), everything
        return Fit(cube, self.config, self.progress).run(), everything


@dataclass
class Best:
    """What one window of dates gave so far: the running mean of outputs, and the one that told the held-out pixels best."""

    mean: Tensor | None = None
    output: Tensor | None = None
    error: float = float("inf")

    def look(self, output: Tensor, truth: Tensor, held: Tensor) -> float:
        """Take in an output (T, C, H, W). Returns the RMSE of the running mean over `held` (0 without any)."""
        self.mean = output.clone() if self.mean is None else self.mean.lerp_(output, 1 - KEEP)
        count = int(held.sum()) * truth.shape[1]
        error = float(((self.mean - truth) * held).square().sum().div(count).sqrt()) if count else 0.0
        if error <= self.error:
            self.error, self.output = error, self.mean.clone()
        return error


@dataclass
class Fit:
    """One cube being fitted: Algorithm 1, one network for all its windows of dates."""

    cube: Cube
    config: Config
    progress: Progress | None = None
    draw: torch.Generator = field(init=False)
    wanted: dict[int, list[Tensor]] = field(init=False, default_factory=dict)  # features of the truth, by window

    def __post_init__(self) -> None:
        c, cube = self.config, self.cube
        self.draw = torch.Generator().manual_seed(c.seed)
        clear = torch.from_numpy(cube.clear)
        seen = np.where(cube.clear[:, None], cube.x, np.float32(0))  # what is hidden cannot leak, not even NaN
        self.truth = torch.from_numpy(seen).clamp(0, 1)  # (T, C, H, W)
        self.held = torch.from_numpy(held_out(cube.clear, c.held_out, c.seed))[:, None]  # (T, 1, H, W)
        self.learn = clear[:, None] & ~self.held
        self.drive = self._drive()
        widths = widths_for(c.widths, cube.x.shape[-2:])
        with torch.random.fork_rng(devices=[]):
            self.network = Network(self.drive.shape[1], self.truth.shape[1], widths, c.as_published)
        framework_default(self.network, c.seed)
        self.features = encoder(c.perceptual, self.truth.shape[1], c.seed)
        self.half = c.arithmetic == "auto" and has_bfloat16(self.truth.device)
        self.adam = torch.optim.Adam(self.network.parameters(), c.rate, fused=True)

    def _drive(self) -> Tensor:
        """What goes into the network: radar in [0, 1] or Gaussian noise, and (ours) the day in [-1, 1]; (T, c_in, H, W)."""
        c, cube = self.config, self.cube
        t, _, h, w = cube.x.shape
        if c.drive != "noise" and cube.s1 is not None and cube.s1_valid is not None:
            s1 = torch.from_numpy(np.where(cube.s1_valid[:, None], cube.s1, np.float32(FILL_DB)))
            drive = scale_radar(s1, BOTH_25, 0, 1)
        else:
            frames = t if c.as_published else 1
            drive = torch.randn(frames, c.noise_channels, h, w, generator=self.draw).expand(t, -1, -1, -1)
        if c.as_published:
            return drive
        days = torch.from_numpy(cube.days - cube.days[0]).float()
        day = 2 * days / days[-1].clamp(min=1) - 1
        return torch.cat([drive, day[:, None, None, None].expand(t, 1, h, w)], 1)

    def run(self) -> Floats:
        """Passes over the windows until the held-out pixels get no better; all dates (T, C, H, W)."""
        c = self.config
        windows = time_windows(len(self.cube.days), c.window, c.shared)
        found = [Best() for _ in windows]
        total = c.passes * c.iterations * len(windows)
        best, since, done = float("inf"), 0, 0
        with _gradients():
            for _ in range(c.passes):
                for window, one in zip(windows, found, strict=True):
                    done = self._one_pass(window, one, done, total)
                error = sum(one.error for one in found)
                since = 0 if error < best else since + 1
                best = min(best, error)
                if since >= c.patience and bool(self.held.any()):
                    break
        return self._together(windows, found)

    def _one_pass(self, window: slice, one: Best, done: int, total: int) -> int:
        c = self.config
        truth, held = self.truth[window], self.held[window]
        for step in range(c.iterations):
            output = self.step(window)
            if step % CHECK == CHECK - 1 or step == c.iterations - 1:
                error = one.look(output, truth, held)
                if self.progress is not None:
                    self.progress(done + step + 1, total, error)
        return done + c.iterations

    def step(self, window: slice) -> Tensor:
        """One iteration of Algorithm 1 on a window of dates. Returns the output before it learned, (T, C, H, W)."""
        c = self.config
        truth, learn, drive = self.truth[window], self.learn[window], self.drive[window]
        clear = learn | self.held[window]
        if c.jitter:
            drive = drive + c.jitter * torch.randn(drive.shape, generator=self.draw)
        with torch.autocast(truth.device.type, torch.bfloat16, enabled=self.half):
            output = self.network(drive, clear)
        output = output.float()
        loss = masked_square(output, truth, learn)
        if not c.as_published and c.quiet:
            loss = loss + c.quiet * unrest(output, clear)
        if self.features is not None:
            if window.start not in self.wanted:  # the same at every iteration
                self.wanted[window.start] = [f.detach() for f in self.features(truth)]
            loss = loss + c.perceptual_weight * perceptual(self.features, output, self.wanted[window.start], learn)
        self.adam.zero_grad()
        torch.autograd.backward(loss)
        self.adam.step()
        result: Tensor = output.detach()
        return result

    def _together(self, windows: list[slice], found: list[Best]) -> Floats:
        total = torch.zeros_like(self.truth)
        count = torch.zeros(len(self.truth), 1, 1, 1)
        for window, one in zip(windows, found, strict=True):
            assert one.output is not None
            total[window] += one.output
            count[window] += 1
        series: Floats = (total / count).numpy()
        return series


@contextmanager
def _gradients() -> Iterator[None]:
    """On, whatever the caller has set."""
    with torch.enable_grad():
        yield


def widths_for(widths: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The levels that an image of `shape` (H, W) is large enough for."""
    levels = 1
    while levels < len(widths) and min(shape) / 2**levels >= DEEPEST:
        levels += 1
    return widths[:levels]


def time_windows(dates: int, window: int, shared: int) -> list[slice]:
    """Windows of adjacent dates that share some; the last one ends with the series."""
    if dates <= window:
        return [slice(0, dates)]
    firsts = sorted({*range(0, dates - window, window - shared), dates - window})
    return [slice(first, first + window) for first in firsts]


def held_out(clear: Bools, share: float, seed: int) -> Bools:
    """(T, H, W) a seeded share of the square blocks, of those that are wholly clear."""
    t, h, w = clear.shape
    rows, cols = -(-h // BLOCK), -(-w // BLOCK)
    full = np.zeros((t, rows * BLOCK, cols * BLOCK), bool)
    full[:, :h, :w] = clear
    whole = full.reshape(t, rows, BLOCK, cols, BLOCK).all((2, 4))
    drawn = whole & (np.random.default_rng(seed).random(whole.shape) < share)
    return drawn.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, :h, :w]


def masked_square(output: Tensor, truth: Tensor, clear: Tensor) -> Tensor:
    """Equation 5: mean square over the clear pixels. (T, C, H, W) and (T, 1, H, W)."""
    total = functional.mse_loss(output * clear, truth * clear, reduction="sum")
    return total / (clear.sum() * truth.shape[1]).clamp(min=1)


def unrest(output: Tensor, clear: Tensor) -> Tensor:
    """Mean square difference of neighbouring dates, over the pixels that are hidden on either."""
    hidden = ~(clear[1:] & clear[:-1])
    differ = torch.eye(len(output))[1:] - torch.eye(len(output))[:-1]  # cheaper to learn through than slices
    step = (differ @ output.flatten(1)).reshape(-1, *output.shape[1:])
    total = functional.mse_loss(step * hidden, torch.zeros_like(step), reduction="sum")
    return total / (hidden.sum() * output.shape[1]).clamp(min=1)


def perceptual(features: Encoder, output: Tensor, wanted: list[Tensor], clear: Tensor) -> Tensor:
    """Equation 6: mean square over features whose whole surroundings are clear, added up over the levels.

    `wanted`: the features of the truth.
    """
    found = features(output)
    hidden = (~clear).float()
    total = output.new_zeros(())
    for a, b in zip(found, wanted, strict=True):
        side = round(hidden.shape[-1] / a.shape[-1])
        seen = 1 - functional.max_pool2d(hidden, side) if side > 1 else 1 - hidden
        total = total + ((a - b) * seen).square().sum() / (seen.sum() * a.shape[1]).clamp(min=1)
    return total
