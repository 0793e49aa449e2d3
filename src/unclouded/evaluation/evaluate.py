"""Run models over a data set under a benchmark: in parallel, resumable image by image, results.json and report.html.

Every image's sums are written as one line as soon as they are known (`<model>.jsonl`), so that a run that was cut off goes
on where it stopped. What is in those lines is all that results need; predictions are kept only on request.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unclouded import __version__
from unclouded.errors import InputMissing, SomeUnitsFailed, UncloudedError, UsageError
from unclouded.evaluation.baselines import BASELINES
from unclouded.evaluation.benchmarks import Benchmark, benchmark
from unclouded.evaluation.presets import Preset, preset
from unclouded.evaluation.results import Line, Results, aggregate
from unclouded.evaluation.scoring import Case, prepare, score
from unclouded.sample import Batch, Sample
from unclouded.scenes.scene import Scene
from unclouded.workers import in_processes

if TYPE_CHECKING:
    from unclouded.models.needs import CloudRemover

Progress = Callable[[int, int], None]


class Samples(Protocol):
    """A data set: how many samples, and the i-th. A list is one; a folder reader that opens files in __getitem__ another."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass(frozen=True)
class Contender:
    """A model in the race: a name for the results, and how to get it: a name of `unclouded.models` or BASELINES, or itself."""

    name: str
    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    remover: CloudRemover | None = None

    def load(self) -> CloudRemover:
        """The remover. Raises UsageError for a name that nobody has."""
        if self.remover is not None:
            return self.remover
        name = self.model or self.name
        if name in BASELINES:
            return BASELINES[name]
        from unclouded.models import load

        return load(name, self.settings)


@dataclass(frozen=True)
class Run:
    """All that a worker must know."""

    samples: Samples
    preset: Preset
    mask: str | None
    contenders: tuple[Contender, ...]
    store: Path | None = None
    loaded: dict[str, CloudRemover] = field(default_factory=dict)  # per process

    def predict(self, contender: Contender, sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, float]:
        """One prediction: reflectance (C, H, W), sigma or None, seconds."""
        import torch

        if sample.target_date is None:
            raise InputMissing("A sample without a target date cannot be restored.", where=sample.place.id)
        if contender.name not in self.loaded:
            self.loaded[contender.name] = contender.load()
        batch, start = Batch.stack([sample]), time.perf_counter()
        remover = self.loaded[contender.name]
        getattr(remover.needs, "check_batch", lambda _: None)(batch)
        with torch.inference_mode():
            guess = remover.adapt(Scene.of(sample), sample.target_date)(batch)
        sigma = None if guess.sigma is None else guess.sigma[0].cpu().numpy()
        return guess.s2[0].cpu().numpy(), sigma, time.perf_counter() - start

    def one(self, index: int, names: Sequence[str]) -> list[Line]:
        """The lines of one image for some contenders. A model's own refusal is a line with its reason."""
        try:
            case = prepare(self.preset, self.samples[index], self.mask)
        except UncloudedError as error:
            return [Line(index=index, model=name, failed=str(error)) for name in names]
        return [self._line(index, case, c) for c in self.contenders if c.name in names]

    def _line(self, index: int, case: Case, contender: Contender) -> Line:
        try:
            prediction, sigma, seconds = self.predict(contender, case.sample)
            scores = score(self.preset, case, prediction, sigma)
        except UncloudedError as error:
            return Line(index=index, model=contender.name, failed=str(error))
        if self.store is not None:
            _store(self.store / contender.name, index, case.sample, prediction, sigma)
        return Line(index=index, model=contender.name, scores=scores, seconds=seconds)


def evaluate(
    models: Sequence[str | Contender],
    samples: Samples,
    benchmark_name: str = "unclouded-v1",
    *,
    out: str | os.PathLike[str],
    preset_name: str | None = None,
    mask: str | None = None,
    jobs: int = 1,
    store: bool = False,
    fresh: bool = False,
    report: bool = True,
    draws: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Results:
    """Score models on a data set and write results.json (and report.html) into the folder `out`.

    `models`: names of `unclouded.models` or of the baselines, or Contenders. `preset_name` and `mask` replace what the
    benchmark says. `jobs`: processes. `store`: keep every prediction as a GeoTIFF under out/predictions. A second call goes
    on where the first stopped, unless `fresh`. `draws` of the bootstrap over regions, by `seed`. `progress(done, all)`.

    Raises UsageError (unknown names, a folder of another run), SomeUnitsFailed once everything else is done and written.
    """
    chosen = benchmark(benchmark_name)
    by = preset(preset_name or chosen.preset)
    contenders = _contenders(models)
    if not len(samples):
        raise InputMissing("The data set is empty: there is nothing to evaluate.")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(samples, by, mask, contenders, folder / "predictions" if store else None)
    lines = _all_lines(run, chosen, folder, jobs, fresh, progress)
    results = aggregate(chosen, by, [c.name for c in contenders], lines, draws=draws, seed=seed)
    _write(folder / "results.json", json.dumps(results.told, indent=1, ensure_ascii=False))
    if report and results.images:
        from unclouded.evaluation.report import examples, render

        _write(folder / "report.html", render(results, examples(run, results)))
    failed = [line for line in lines if line.failed]
    if failed:
        raise SomeUnitsFailed(
            f"{len(failed)} of {len(lines)} predictions failed; the others are scored and written.",
            where=folder, why=failed[0].failed, do="see `failed` in results.json; the same command tries them again.",
        )  # fmt: skip
    return results


def _contenders(models: Sequence[str | Contender]) -> tuple[Contender, ...]:
    found = tuple(Contender(m) if isinstance(m, str) else m for m in models)
    names = [c.name for c in found]
    if not names or len(set(names)) != len(names):
        raise UsageError(
            "evaluate needs at least one model, and different names for all.", why=f"got: {', '.join(names) or 'none'}."
        )
    for contender in found:  # unknown names are found before the first image
        contender.load()
    return found


def _all_lines(run: Run, chosen: Benchmark, folder: Path, jobs: int, fresh: bool, progress: Progress | None) -> list[Line]:
    with ExitStack() as stack:
        journals = {
            c.name: stack.enter_context(_Journal(folder / f"{c.name}.jsonl", _header(run, chosen, c), fresh))
            for c in run.contenders
        }
        total = len(run.samples)
        missing = {i: [name for name, journal in journals.items() if i not in journal.done] for i in range(total)}
        todo = [(i, names) for i, names in missing.items() if names]
        finished = total - len(todo)
        if progress is not None:
            progress(finished, total)
        for lines in _work(run, todo, jobs):
            for line in lines:
                journals[line.model].add(line)
            finished += 1
            if progress is not None:
                progress(finished, total)
        return [line for journal in journals.values() for line in journal.lines()]


def _header(run: Run, chosen: Benchmark, contender: Contender) -> dict[str, Any]:
    return {
        "format": 1, "unclouded": __version__, "benchmark": chosen.name, "preset": run.preset.name,
        "preset_digest": run.preset.digest, "mask": run.mask, "model": contender.model or contender.name,
        "settings": dict(contender.settings), "images": len(run.samples),
    }  # fmt: skip


class _Journal:
    """The lines of one model on disk: a header, then one line per image; a torn last line is forgotten."""

    def __init__(self, path: Path, header: dict[str, Any], fresh: bool) -> None:
        self.done: dict[int, Line] = {}
        if path.exists() and not fresh:
            self._read(path, header)
        self.failed: dict[int, Line] = {}
        text = "".join(line.text for line in self.done.values())
        _write(path, json.dumps(header, ensure_ascii=False) + "\n" + text)
        self.file = path.open("a", encoding="utf-8")

    def _read(self, path: Path, header: dict[str, Any]) -> None:
        first, *rest = path.read_text(encoding="utf-8").splitlines() or ["{}"]
        try:
            found = json.loads(first)
        except json.JSONDecodeError:
            found = {}
        differs = [key for key in header if found.get(key) != header[key]]
        if differs:
            raise UsageError(
                "This folder holds the results of another run.", where=path,
                why="; ".join(f"{key} was {found.get(key)!r} and is {header[key]!r}" for key in differs) + ".",
                do="give another folder, or start afresh (--fresh) to replace them.",
            )  # fmt: skip
        for text in rest:
            line = Line.read(text)
            if line is not None:
                self.done[line.index] = line

    def add(self, line: Line) -> None:
        """One more image; failures are kept in memory only, so that a second run tries them again."""
        if line.failed:
            self.failed[line.index] = line
            return
        self.done[line.index] = line
        self.file.write(line.text)
        self.file.flush()

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def lines(self) -> list[Line]:
        """All lines in the order of the data set."""
        return [line for _, line in sorted((self.done | self.failed).items())]


def _work(run: Run, todo: Sequence[tuple[int, list[str]]], jobs: int) -> Iterator[list[Line]]:
    """The lines of all tasks, as they come. An error that is no refusal ends the run."""
    yield from in_processes(partial(_task, run), todo, jobs)


def _task(run: Run, item: tuple[int, list[str]]) -> list[Line]:
    return run.one(*item)


def _store(
    folder: Path, index: int, sample: Sample, prediction: NDArray[np.float32], sigma: NDArray[np.float32] | None
) -> None:
    """One prediction as GeoTIFF float32 reflectance (and sigma), bands named, NaN where refused."""
    from unclouded.raster import create_raster

    folder.mkdir(parents=True, exist_ok=True)
    bands = sample.place.bands
    layers = prediction if sigma is None else np.concatenate([prediction, sigma])
    names = bands if sigma is None else (*bands, *(f"sigma {b}" for b in bands))
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in sample.place.id)
    with create_raster(
        folder / f"{index:06d}_{safe}.tif", height=layers.shape[1], width=layers.shape[2], count=len(layers), dtype="float32",
        grid=sample.place.grid, nodata=float("nan"), descriptions=names, tags={}, compress="deflate",
    ) as target:  # fmt: skip
        target.write(layers)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
