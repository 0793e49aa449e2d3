"""What an evaluation says of its data: where they lie, which split by which rule, how inputs were drawn, and digests of them.

The record stands in the header of every journal, so that a run never goes on with other data, and in results.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unclouded.datasets.pack import Packed
from unclouded.datasets.sen12 import SEN12
from unclouded.datasets.sen12mscr import KINDS, SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.split import Roi, table_of
from unclouded.errors import UncloudedError
from unclouded.evaluation.protocols import References, Transplants
from unclouded.sample import Sample

STATED = ("kind", "root", "split", "rule", "dates", "sampler", "cover", "detector")  # None: does not apply, or nobody said
Record = dict[str, Any]


def described(samples: Any) -> Record:
    """The record of a data set: STATED and whatever else is known of it, ready for JSON.

    Views are looked through. A data set may have a mapping `told`, which says more of it (`open_data` states split and rule
    there). Images are not read; those in memory are hashed. `items`: the digest of the list of names, `content`: of the
    samples, or of the sizes and times of their files. Of a data set of another kind only that is known.
    """
    stated: Record = {}
    while True:
        told = getattr(samples, "told", None)
        stated = (dict(told) if isinstance(told, Mapping) else {}) | stated
        if not hasattr(samples, "source"):
            return dict.fromkeys(STATED) | _own(samples) | stated
        samples = samples.source  # of a view


def _own(source: Any) -> Record:
    """What a data set says of itself."""
    if isinstance(source, SEN12MSCR):
        paths = [p.path(k) for p in source.patches for k in KINDS if k != "s1" or source.with_s1]
        return {
            "kind": "SEN12MS-CR", **_folder(source), "radar": source.with_s1,
            "by_split": by_split(source.root, "sen12mscr", [p.roi for p in source.patches]),
            "items": digest(map(str, source.patches)), "content": _files(source.root, paths),
        }  # fmt: skip
    if isinstance(source, SEN12MSCRTS):
        return _of_series(source)
    if isinstance(source, SEN12):
        paths = [p.path(k) for p in source.pairs for k in ("s1", "s2")]
        return {
            "kind": "SEN1-2", "root": str(source.root.resolve()), "bands": list(source.bands),
            "items": digest(map(str, source.pairs)), "content": _files(source.root, paths),
        }  # fmt: skip
    if isinstance(source, Packed):
        names = sorted(path.name for path in source.folder.iterdir())
        return {
            "kind": "pack", "root": str(source.folder.resolve()), "bands": list(source.bands), "level": source.level,
            "items": digest(str(row["id"]) for row in source.samples), "content": _files(source.folder, names),
        }  # fmt: skip
    return _in_memory(source)


def _of_series(source: SEN12MSCRTS) -> Record:
    drawn = source.dates is not None
    shots = [shot.path for s in source.series for shot in (*s.s2, *(s.s1 if source.with_s1 else ()))]
    return {
        "kind": "SEN12MS-CR-TS", **_folder(source), "radar": source.with_s1, "dates": source.dates,
        "sampler": source.sampler if drawn else None, "cover": list(source.limits) if drawn else None,
        "detector": source.measure and source.measure.name, "seed": source.seed,
        "by_split": by_split(source.root, "sen12mscrts", [s.roi for s in source.series]),
        "items": digest(map(str, source.series)), "content": _files(source.root, shots),
    }  # fmt: skip


def _folder(source: SEN12MSCR | SEN12MSCRTS) -> Record:
    told: Record = {"root": str(source.root.resolve()), "bands": list(source.bands), "level": source.level}
    if isinstance(source, SEN12MSCR) and source.measure is not None:
        told["detector"] = source.measure.name
    return told


def _in_memory(source: Any) -> Record:
    """Samples that are there are hashed; of what reads them one by one only the names can be told, where it has some."""
    names = getattr(source, "patches", None) or getattr(source, "series", None)
    items = digest(map(str, names)) if isinstance(names, tuple) else None
    if isinstance(source, (list, tuple)):
        return {"kind": "in memory", "items": items, "content": hashed(list(source))}
    if isinstance(source, (Transplants, References)):
        return {"kind": "in memory", "items": items, "content": hashed([source[k] for k in range(len(source))])}
    return {"kind": type(source).__name__, "items": items}


def by_split(root: Path, dataset: str, rois: Sequence[Roi]) -> dict[str, int] | None:
    """How many items lie in the regions of each split, by the table that governs the root, matched exactly.

    Says what was looked at, whatever the rule that chose it. None where the table cannot be read.
    """
    try:
        table = table_of(root, dataset)
    except UncloudedError:
        return None
    found: dict[str, int] = {}
    for roi in rois:
        name = str(table.get(roi, "none"))
        found[name] = found.get(name, 0) + 1
    return found


def digest(texts: Iterable[str]) -> str:
    """SHA-256 of some texts, one per line."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _files(root: Path, paths: Iterable[str]) -> str:
    """The digest of names, sizes and times of files; one that is not there has neither."""
    lines = []
    for path in paths:
        try:
            found = (root / path).stat()
            lines.append(f"{path} {found.st_size} {found.st_mtime_ns}")
        except OSError:
            lines.append(path)
    return digest(lines)


def hashed(samples: Sequence[Sample]) -> str:
    """The SHA-256 of samples: names, bands, dates and every number."""
    total = hashlib.sha256()
    for sample in samples:
        told = (sample.place.id, sample.place.bands, sample.place.level, sample.target_date, sample.target_index)
        total.update(repr(told).encode())
        for name, value in sorted(vars(sample).items()):
            if isinstance(value, np.ndarray):
                total.update(f"{name} {value.shape} {value.dtype}".encode())
                total.update(np.ascontiguousarray(value).view(np.uint8).data)
    return total.hexdigest()


def in_words(data: Mapping[str, Any]) -> str:
    """The record in a line: the kind of data, the split and its rule, how inputs were drawn. Without folder and digests."""
    known = {key: data.get(key) for key in STATED}
    if not any(value is not None for value in known.values()):
        return "data that nobody described"
    said = [str(known["kind"] or "data of an unknown kind"), *_split(data)]
    if known["dates"] is not None:
        said.append(f"{known['dates']} date{'' if known['dates'] == 1 else 's'} per series")
    if known["sampler"] is not None:
        low, high = known["cover"] or (0, 1)
        said.append(f"drawn by the sampler '{known['sampler']}', cover {100 * low:g} to {100 * high:g} %")
    if known["detector"] is not None:
        said.append(f"clouds of the data by {known['detector']}")
    return ", ".join(said)


def _split(data: Mapping[str, Any]) -> list[str]:
    split, counts = data.get("split"), data.get("by_split")
    if split is None and not counts:
        return []
    said = "split not stated" if split is None else f"split {split}" + (f" by rule {data['rule']}" if data.get("rule") else "")
    if counts and set(counts) != {split}:
        said += f" (by the exact table: {', '.join(f'{n} {name}' for name, n in counts.items())})"
    return [said]
