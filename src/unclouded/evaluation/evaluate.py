"""Run models over a data set under a benchmark: in parallel, resumable image by image, results.json and report.html.

Every image's sums are written as one line as soon as they are known (`<model>.jsonl`), so that a run that was cut off goes
on where it stopped. What is in those lines is all that results need; predictions are kept only on request.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded import __version__
from unclouded.errors import InputMissing, OutputFailed, SomeUnitsFailed, UncloudedError, UsageError
from unclouded.evaluation.baselines import BASELINES
from unclouded.evaluation.benchmarks import Benchmark, benchmark
from unclouded.evaluation.described import described
from unclouded.evaluation.features import FeatureNetwork, packed
from unclouded.evaluation.features import load as load_features
from unclouded.evaluation.journal import Journal, filed, write_whole
from unclouded.evaluation.presets import Preset, preset
from unclouded.evaluation.protocols import stitch
from unclouded.evaluation.results import Line, Results, Set, aggregate
from unclouded.evaluation.scoring import Case, as_stored, automatic, crop_window, known_mask, prepare, score
from unclouded.evaluation.views import Samples, protocol, viewed
from unclouded.sample import Batch, Sample
from unclouded.scenes.scene import Scene
from unclouded.workers import in_processes

if TYPE_CHECKING:
    from unclouded.models.needs import CloudRemover

Progress = Callable[[int, int], None]


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


Restored = tuple[NDArray[np.float32], NDArray[np.float32] | None, float]  # reflectance (C, H, W), sigma, processor seconds


@dataclass(frozen=True)
class Run:
    """All that a worker must know."""

    samples: Samples
    preset: Preset
    mask: str | None
    contenders: tuple[Contender, ...]
    store: Path | None = None
    features: str | None = None  # weights of a feature network
    clouds: str = "given"  # who made the clouds that samples bring: a detector, or given
    loaded: dict[str, CloudRemover] = field(default_factory=dict)  # per process
    networks: dict[str, FeatureNetwork] = field(default_factory=dict)  # per process

    def predict(self, contender: Contender, sample: Sample) -> Restored:
        """One prediction: reflectance (C, H, W), sigma or None, processor seconds. Bands a model does not make are NaN."""
        import torch

        if sample.target_date is None:
            raise InputMissing("A sample without a target date cannot be restored.", where=sample.place.id)
        if contender.name not in self.loaded:
            self.loaded[contender.name] = contender.load()
        remover = self.loaded[contender.name]
        at = bands_for(remover, sample.place.bands)
        batch, start = Batch.stack([sample if at is None else only_bands(sample, at)]), time.process_time()
        getattr(remover.needs, "check_batch", lambda _: None)(batch)
        with torch.no_grad():  # and no inference mode, in which methods that learn the place could not
            guess = remover.adapt(Scene.of(sample), sample.target_date)(batch)
        images = [None if x is None else x[0].cpu().numpy() for x in (guess.s2, guess.sigma)]
        count = len(sample.place.bands)
        s2, sigma = (x if x is None or at is None else among(x, at, count) for x in images)
        assert s2 is not None
        return s2, sigma, time.process_time() - start

    def restored(self, contender: Contender, index: int, case: Case) -> Restored:
        """The prediction for a case: of the sample, or stitched from those of the patches where the view has `parts`."""
        parts = getattr(self.samples, "parts", None)
        if parts is None:
            return self.predict(contender, case.sample)
        patches = [as_stored(patch) for patch in parts(index)]
        origins = [p.place.origin for p in patches]
        each = [self.predict(contender, p) for p in patches]
        sigmas = [sigma for _, sigma, _ in each if sigma is not None]
        scene = stitch([s2 for s2, _, _ in each], origins)
        window = (slice(None), *crop_window(self.preset.crop, (scene.shape[1], scene.shape[2])).slices)
        sigma = stitch(sigmas, origins)[window] if len(sigmas) == len(each) else None
        return scene[window], sigma, sum(seconds for *_, seconds in each)

    def one(self, index: int, names: Sequence[str]) -> list[Line]:
        """The lines of one image for some contenders. A model's own refusal is a line with its reason."""
        try:
            case = prepare(self.preset, self.samples[index], self.mask)
            case = replace(case, mask=self.clouds if case.mask == "given" else case.mask)
            truth = None if self.features is None else self._feature(case, case.target)
        except UncloudedError as error:
            return [Line(index=index, model=name, failed=str(error)) for name in names]
        return [self._line(index, case, c, truth) for c in self.contenders if c.name in names]

    def _line(self, index: int, case: Case, contender: Contender, truth: NDArray[np.float32] | None) -> Line:
        try:
            prediction, sigma, seconds = self.restored(contender, index, case)
            scores = score(self.preset, case, prediction, sigma)
            shown = np.where(np.isfinite(prediction), prediction, case.given)
            features = "" if truth is None else packed(truth, self._feature(case, shown))
        except UncloudedError as error:
            return Line(index=index, model=contender.name, failed=str(error))
        if self.store is not None:
            _store(self.store / filed(contender.name), index, case.sample, prediction, sigma)
        variant = getattr(self.samples, "variant", lambda _: "")(index)
        return Line(
            index=index, model=contender.name, scores=scores, seconds=seconds, variant=variant, features=features
        )  # fmt: skip

    def _feature(self, case: Case, image: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.features is not None
        if self.features not in self.networks:
            self.networks[self.features] = load_features(self.features)
        return self.networks[self.features].of(image, case.sample.place.bands)


def bands_for(remover: CloudRemover, bands: tuple[str, ...]) -> list[int] | None:
    """Where the bands that a model takes stand among those there are; None: it is shown all (and may refuse them)."""
    wanted = remover.needs.bands
    if wanted is None or wanted == bands or not set(wanted) <= set(bands):
        return None
    return [bands.index(b) for b in wanted]


def only_bands(sample: Sample, at: Sequence[int]) -> Sample:
    """The sample with some of its bands."""
    target = None if sample.target is None else sample.target[list(at)]
    place = replace(sample.place, bands=tuple(sample.place.bands[k] for k in at))
    return replace(sample, place=place, s2=sample.s2[:, list(at)], target=target)


def among(image: NDArray[np.float32], at: Sequence[int], count: int) -> NDArray[np.float32]:
    """Some bands (n, H, W) among `count`; the others NaN."""
    whole = np.full((count, *image.shape[1:]), np.nan, np.float32)
    whole[list(at)] = image
    return whole


def evaluate(
    models: Sequence[str | Contender],
    samples: Samples,
    benchmark_name: str = "unclouded-v1",
    *,
    out: str | os.PathLike[str],
    preset_name: str | None = None,
    mask: str | None = None,
    protocol_name: str | None = None,
    features: str | None = None,
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
    benchmark says; `protocol_name` shows the data in another way (see `views`). `features`: weights of a network, for
    precision, recall and F1 of the set. `jobs`: processes. `store`: keep every prediction as a GeoTIFF under out/predictions.
    A second call goes on where the first stopped, unless `fresh`; with `store` it makes the predictions that were not
    kept. `draws` of the bootstrap over regions, by `seed`. `progress(done, all)`.

    Raises UsageError (unknown names, numbers that cannot be, a folder of another run, a file as `out`) and OutputFailed before
    any work, SomeUnitsFailed once everything else is done and written.
    """
    folder = _checked(Path(out), mask, jobs, draws, seed)
    chosen = benchmark(benchmark_name)
    by = preset(preset_name or chosen.preset)
    contenders = _contenders(models)
    if not len(samples):
        raise InputMissing("The data set is empty: there is nothing to evaluate.")
    network = None if features is None else load_features(features)
    data = described(samples)
    clouds = data["detector"] or "given"
    view = None if protocol_name is None else _protocol(protocol_name, clouds_of(samples, mask or by.mask, clouds))
    told = Set(protocol=view, features=None if network is None else network.told(), data=data)
    if protocol_name is not None and view is not None:
        samples = viewed(protocol_name, samples, mask or by.mask)
        if protocol(protocol_name).clouds:
            mask, clouds = "given", view["clouds_from"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed("The folder for results cannot be made.", where=folder, why=str(error)) from error
    run = Run(samples, by, mask, contenders, folder / "predictions" if store else None, features, clouds)
    lines = _all_lines(run, _header(run, chosen, told), folder, jobs, fresh, progress)
    results = aggregate(chosen, by, [c.name for c in contenders], lines, draws=draws, seed=seed, of=told)
    write_whole(folder / "results.json", json.dumps(results.told, indent=1, ensure_ascii=False))
    if report and results.images:
        from unclouded.evaluation.examples import examples
        from unclouded.evaluation.report import render

        write_whole(folder / "report.html", render(results, examples(run, results)))
    failed = [line for line in lines if line.failed]
    if failed:
        raise SomeUnitsFailed(
            f"{len(failed)} of {len(lines)} predictions failed; the others are scored and written.",
            where=folder, why=failed[0].failed, do="see `failed` in results.json; the same command tries them again.",
        )  # fmt: skip
    return results


def _checked(folder: Path, mask: str | None, jobs: int, draws: int, seed: int) -> Path:
    """The folder, if it and the other arguments can be. Raises UsageError."""
    if mask is not None:
        known_mask(mask)
    if jobs < 1 or draws < 1:
        raise UsageError(
            f"{jobs} processes and {draws} draws: there must be one of each at least.", do="give --workers 1 or more."
        )
    if seed < 0:
        raise UsageError(f"The seed {seed} is below 0.", do="give --seed 0 or more.")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError("The results cannot go here: this is a file.", where=there, do="give a folder (--out).")
    return folder


def _contenders(models: Sequence[str | Contender]) -> tuple[Contender, ...]:
    found = tuple(m if isinstance(m, Contender) else by_name(m, models) for m in models)
    names = [c.name for c in found]
    if not names or len(set(names)) != len(names):
        raise UsageError(
            "evaluate needs at least one model, and different names for all.", why=f"got: {', '.join(names) or 'none'}."
        )
    for contender in found:  # unknown names are found before the first image
        contender.load()
    return found


def by_name(model: str, others: Sequence[str | Contender] = ()) -> Contender:
    """A contender by its model; a trained one is called as its folder or file, in full where another is called so too."""
    if model in BASELINES or not Path(model).exists():
        return Contender(model)
    called = [Path(m).stem for m in others if isinstance(m, str)]
    return Contender(Path(model).stem if called.count(Path(model).stem) < 2 else model, model)


def _protocol(name: str, clouds: str) -> dict[str, Any]:
    """What results.json says of a protocol."""
    view = protocol(name)
    return {"name": name, "about": view.about, "source": view.source, "clouds_from": clouds}


def clouds_of(samples: Samples, mask: str, given: str) -> str:
    """The detector that `mask` stands for: where it is auto or given, that of the samples' own clouds, which is `given`.

    Looks at the first sample, and takes the word as it is where that cannot be read.
    """
    if mask not in ("auto", "given"):
        return mask
    try:
        first = samples[0]
        return automatic(first.place) if first.cloud is None and mask == "auto" else given
    except UncloudedError:
        return mask


def _all_lines(
    run: Run, header: Mapping[str, Any], folder: Path, jobs: int, fresh: bool, progress: Progress | None
) -> list[Line]:
    with ExitStack() as stack:
        journals = {
            c.name: stack.enter_context(Journal(folder / f"{filed(c.name)}.jsonl", {**header, **_of(c)}, fresh))
            for c in run.contenders
        }
        total = len(run.samples)
        missing = {i: [name for name, journal in journals.items() if not _done(run, name, journal, i)] for i in range(total)}
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


def _done(run: Run, name: str, journal: Journal, index: int) -> bool:
    """Whether an image has its line, and its prediction where these are to be kept."""
    line = journal.done.get(index)
    if line is None or line.scores is None:
        return False
    return run.store is None or stored(run.store / filed(name), index, line.scores.place).is_file()


def _header(run: Run, chosen: Benchmark, told: Set) -> dict[str, Any]:
    return {
        "format": 2, "unclouded": __version__, "benchmark": chosen.name, "preset": run.preset.name,
        "preset_digest": run.preset.digest, "mask": run.mask, "protocol": told.protocol,
        "features": told.features and told.features["sha256"], "images": len(run.samples),
        "data": told.data,
    }  # fmt: skip


def _of(contender: Contender) -> dict[str, Any]:
    return {
        "model": contender.model or contender.name, "settings": dict(contender.settings),
        "weights": _weights(Path(contender.model or contender.name)),
    }  # fmt: skip


def _weights(path: Path) -> str | None:
    """The sha256 of a trained model's weights; None for a model without."""
    from unclouded.models import WEIGHTS

    file = path / WEIGHTS if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


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
    path = stored(folder, index, sample.place.id)
    part = path.with_name(f"{path.name}.part")
    with create_raster(
        part, height=layers.shape[1], width=layers.shape[2], count=len(layers), dtype="float32", grid=sample.place.grid,
        nodata=float("nan"), descriptions=names, tags={}, compress="deflate",
    ) as target:  # fmt: skip
        target.write(layers)
    part.replace(path)


def stored(folder: Path, index: int, place: str) -> Path:
    """Where the prediction of an image is kept, in the folder of its model."""
    return folder / f"{index:06d}_{filed(place)}.tif"
