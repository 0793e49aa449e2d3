"""The authors' published weight files, read without trusting them, renamed, and written as our safetensors.

A foreign file is opened in a child process with limited memory, time and output (models/quarantine.py): HDF5 of Keras by h5py,
.pth of torch with `weights_only`. The child hands back plain tensors; nothing in the file is executed here or there. The
Config is read off the shapes, so reduced and published sizes import alike.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unclouded.bands import L1C
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety, UsageError
from unclouded.models.settings import UNBUILT, checked
from unclouded.models.weights import Weights, save
from unclouded.models.zoo import NETWORKS, network, network_class

if TYPE_CHECKING:
    from torch import Tensor

    from unclouded.models import dsen2cr, glfcr, pix2pix, seq2point, spagan, stgan, uncrtaints, utilise
    from unclouded.models.single_date import SingleDate

Tensors = Mapping[str, "Tensor"]
SECONDS = 300  # for the child to read a file
RGB = ("B04", "B03", "B02")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One kind of published file: what it becomes, how its names are read, and where it comes from.

    `untold`: settings that no file of this kind tells, as its authors' command has them. `convert` is given them by name.
    """

    model: str  # the row of the table it becomes, or another of the same network that its settings fit better
    convert: Callable[..., tuple[Any, dict[str, Tensor]]]
    url: str
    licence: str
    trained_on: str
    untold: Mapping[str, Any] = field(default_factory=dict)


def import_file(kind: str, path: Path, out: Path, told: Mapping[str, Any] | None = None) -> Weights:
    """Read an authors' file of a kind in PUBLISHED and write it to `out`. Returns the record in the new file's header.

    `told`: settings that the file does not tell (`Published.untold`), where they differ from those its authors published.
    Raises UsageError for an unknown kind or setting, InputMissing, InputCorrupt, InputUnsupported with the names that do not
    fit, and RefusedForSafety for a file that holds anything but tensors.
    """
    if kind not in PUBLISHED:
        raise UsageError(f"There is no import of '{kind}'.", why=f"known are: {', '.join(PUBLISHED)}.")
    if not path.is_file():
        raise InputMissing("There is no such file.", where=path)
    source = PUBLISHED[kind]
    if odd := set(told or {}) - set(source.untold):
        can = f"it can be told: {', '.join(source.untold)}." if source.untold else "it tells all of them itself."
        raise UsageError(f"A file of '{kind}' is not told '{min(odd)}'.", why=can)
    remover = _remover(source, quarantined(path), {**source.untold, **(told or {})}, path)
    model = _row(source.model, remover.config)
    notes = Weights(
        model=model, url=source.url, sha256=_sha256(path), licence=source.licence, trained_on=source.trained_on,
        citation=network(model).source,
    )  # fmt: skip
    return save(out, model, remover, notes)


def _remover(source: Published, tensors: Tensors, told: Mapping[str, Any], path: Path) -> SingleDate:
    """The network of a file, with what it holds. Raises InputUnsupported where that is something else, or no numbers."""
    kind, settings = network_class(source.model)
    try:
        config, state = source.convert(tensors, **told)
        own = checked(settings, asdict(config))
        if wrong := [name for name, tensor in state.items() if tensor.is_complex() or not bool(tensor.isfinite().all())]:
            raise InputUnsupported(
                "This file holds weights that are no finite real numbers.", where=path, why=f"{', '.join(wrong[:6])}.",
                do="download it again; if it stays so, the training that made it had failed.",
            )  # fmt: skip
        remover: SingleDate = kind(own, state)
    except UNBUILT as error:
        sought = f"there is no {error}" if isinstance(error, KeyError) else f"its shapes do not belong together ({error})"
        raise InputUnsupported(
            f"This file does not hold weights of {source.model} in its published layout.",
            where=path,
            why=f"{sought}; the file has {len(tensors)} tensors: {', '.join(list(tensors)[:6])}, ...",
        ) from error
    return remover


def _row(model: str, config: Any) -> str:
    """The row of the table with the same network whose preset says most of a Config, `model` among equals."""
    row = network(model)
    rows = [name for name, other in NETWORKS.items() if (other.remover, other.config) == (row.remover, row.config)]
    fitting = [name for name in rows if all(getattr(config, key) == value for key, value in network(name).preset.items())]
    return max([model, *fitting], key=lambda name: (name in fitting, len(network(name).preset), name == model))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quarantined(path: Path, seconds: int = SECONDS) -> dict[str, Tensor]:
    """All tensors of a foreign file, by name, read in a child process. Raises InputCorrupt or RefusedForSafety."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory(prefix="unclouded-import-") as folder:
        out = Path(folder) / "tensors.safetensors"
        command = [sys.executable, "-I", "-m", "unclouded.models.quarantine", str(path.resolve()), str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise RefusedForSafety(
                "Reading the weights took too long and was stopped.", where=path, why=f"{seconds} s."
            ) from error
        if done.returncode or not out.is_file():
            raise _refusal(done, path)
        return load_file(out)


def _refusal(done: subprocess.CompletedProcess[str], path: Path) -> InputCorrupt | RefusedForSafety:
    last = done.stdout.strip().splitlines()[-1:] or ["{}"]
    try:
        said = json.loads(last[0])
    except ValueError:
        said = {}
    why = str(said.get("why", f"the reader ended with code {done.returncode}"))[:300]
    if said.get("refused"):
        return RefusedForSafety("The file holds more than tensors and was not opened.", where=path, why=why)
    return InputCorrupt("The weights cannot be read.", where=path, why=why)


def _plain(tensors: Tensors) -> dict[str, Tensor]:
    """The largest group of a checkpoint ("network/...", "state_dict/..."), without the prefix of data-parallel training."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, own = name.rpartition("/")
        groups.setdefault(group, {})[own] = tensor
    largest = max(groups.values(), key=len, default={})
    return {k.removeprefix("module."): v for k, v in largest.items()}


def _count(state: Tensors, pattern: str) -> int:
    """One more than the largest number that `pattern` finds in the names. Raises KeyError where it finds none."""
    found = [int(m[1]) for k in state if (m := re.match(pattern, k))]
    if not found:
        raise KeyError(pattern)
    return 1 + max(found)


def _bands(channels: int) -> tuple[str, ...]:
    known = {13: L1C, 3: RGB}
    if channels not in known:
        raise ValueError(f"3 or 13 optical bands, not {channels}")
    return known[channels]


def keras_dsen2cr(tensors: Tensors) -> tuple[dsen2cr.Config, dict[str, Tensor]]:
    """Keras layers ".../conv2d_7/kernel:0" in order of their number; kernels from HWIO to OIHW."""
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if (m := re.search(r"conv2d(?:_(\d+))?/(kernel|bias)(?::0)?$", name)) and not name.startswith("optimizer"):
            layers.setdefault(int(m[1] or 0), {})[m[2]] = tensor
    ordered = [layers[n] for n in sorted(layers)]
    pairs = (len(ordered) - 2) // 2
    names = ["model.0"]
    names += [f"model.{b + 2}.conv_block.{half}" for b in range(pairs) for half in (0, 2)]
    names += [f"model.{pairs + 2}"]
    state: dict[str, Tensor] = {}
    for name, layer in zip(names, ordered, strict=True):
        state[f"{name}.weight"] = layer["kernel"].permute(3, 2, 0, 1).contiguous()
        state[f"{name}.bias"] = layer["bias"]
    return torch_dsen2cr(state)


def torch_dsen2cr(tensors: Tensors) -> tuple[dsen2cr.Config, dict[str, Tensor]]:
    """The authors' torch port: the same names as here."""
    from unclouded.models.dsen2cr import Config

    state = _plain(tensors)
    blocks = _count(state, r"model\.(\d+)\.conv_block") - 2
    features, channels = state["model.0.weight"].shape[:2]
    bands = state[f"model.{blocks + 2}.weight"].shape[0]
    return Config(bands=_bands(bands), sar=channels == bands + 2, features=features, blocks=blocks), state


def without_buffers(state: Tensors) -> dict[str, Tensor]:
    """Without what depends on the training crop and is computed here."""
    return {k: v for k, v in state.items() if not k.endswith(("attn_mask", "relative_position_index"))}


def torch_glfcr(tensors: Tensors) -> tuple[glfcr.Config, dict[str, Tensor]]:
    """The released code's names, without its buffers."""
    from unclouded.models.glfcr import Config

    state = without_buffers(_plain(tensors))
    table = state["RDBs.0.convs.0.attn.relative_position_bias_table"]
    features = state["SFENet1.weight"].shape[0]
    config = Config(
        bands=_bands(state["UPNet.2.weight"].shape[0]),
        features=features,
        blocks=_count(state, r"RDBs\.(\d+)"),
        layers=_count(state, r"RDBs\.0\.convs\.(\d+)"),
        growth=state["RDBs.0.convs.0.conv.0.weight"].shape[0],
        heads=table.shape[1],
        window=(round(table.shape[0] ** 0.5) + 1) // 2,
        kernel=round((state["DF.0.fac_warp.3.0.weight"].shape[0] / features) ** 0.5),
        variant="as_published",
    )
    return config, state


def torch_pix2pix(tensors: Tensors) -> tuple[pix2pix.Config, dict[str, Tensor]]:
    """A U-Net generator of the pix2pix code: S2 then S1 in, S2 out."""
    from unclouded.models.pix2pix import Config

    state = _plain(tensors)
    width, channels = state["model.model.0.weight"].shape[:2]
    bands = state["model.model.3.weight"].shape[1]
    levels = 1 + max(k.count(".model.") for k in state) - 1
    return Config(bands=_bands(bands), sar=channels == bands + 2, width=width, levels=levels), state


def torch_spagan(tensors: Tensors) -> tuple[spagan.Config, dict[str, Tensor]]:
    """The published generator: names behind "gen.gen."."""
    from unclouded.models.spagan import Config

    state = {k.removeprefix("gen.").removeprefix("gen."): v for k, v in _plain(tensors).items()}
    width, bands = state["conv_in.0.weight"].shape[:2]
    return Config(bands=_bands(bands), width=width), state


def torch_seq2point(tensors: Tensors) -> tuple[seq2point.Config, dict[str, Tensor]]:
    """The branched generator of SEN12MS-CR-TS: a trunk, then 3-D convolutions."""
    from unclouded.models.seq2point import BLOCKS_3D, Config

    state = _plain(tensors)
    features, channels = state["model_initial.0.weight"].shape[:2]
    bands, _, dates = state[f"model_final.{BLOCKS_3D + 3}.weight"].shape[:3]
    blocks = _count(state, r"model_initial\.(\d+)\.conv_block") - 2
    config = Config(
        bands=_bands(bands), sar=channels == bands + 2, dates=dates, features=features, blocks=blocks, output="as_published"
    )
    return config, state


def torch_stgan(tensors: Tensors) -> tuple[stgan.Config, dict[str, Tensor]]:
    """A generator of STGAN, or of its copy in SEN12MS-CR-TS, which ends residual branches in a ReLU and takes radar.

    Branches whose tensors are all equal are the published "independent" ones, which are one module held three times.
    """
    from unclouded.models.stgan import Config

    state = _plain(tensors)
    unet = "up1.model.1.weight" in state
    kernels = {k: v for k, v in state.items() if v.dim() == 4}
    first = kernels[min(k for k in kernels if re.match(r"down1\.|model_initial", k))]
    final = max((k for k in state if re.match(r"model_final\.\d+\.bias", k)), key=lambda k: int(k.split(".")[1]), default="")
    restored = state["up1.model.1.weight"].shape[1] if unet else len(state[final])
    bands, names = _stgan_bands(first.shape[1], restored)
    config = Config(
        bands=bands, restores=names, sar=first.shape[1] == len(bands) + 2, generator="unet" if unet else "resnet",
        branches=_branches(state), width=first.shape[0], levels=_count(state, r"down(\d+)\.") - 1 if unet else 8,
        norm="batch" if any(k.endswith("running_mean") for k in state) else "instance", relu_after=names is None,
        dropout=any(".conv_block.6." in k for k in kernels),
    )  # fmt: skip
    return config, state


def _branches(state: Tensors) -> stgan.Branches:
    """By the names, and by whether the branches' tensors are equal."""
    same: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():
        if found := re.match(r"(.*model|model_initial|model_intermediate)_\d+\.(.*)", name):
            same.setdefault(f"{found[1]}.{found[2]}", []).append(tensor)
    if not same:
        return "shared"
    tied = all(tensor.equal(group[0]) for group in same.values() for tensor in group)
    return "independent_as_published" if tied else "independent"


def _stgan_bands(channels: int, restored: int) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Bands in, and those restored (None: all), by the channels of a date and of the result."""
    if restored == len(RGB) and channels in (3, 4):
        return (*RGB, "B08")[:channels], RGB
    if channels - restored in (0, 2):
        return _bands(restored), None
    raise ValueError(f"3 or 4 bands in and 3 out, or 13 with or without radar, not {channels} in and {restored} out")


def torch_uncrtaints(tensors: Tensors, **told: Any) -> tuple[uncrtaints.Config, dict[str, Tensor]]:
    """The generator of UnCRtainTS: names behind "netG."; older files count blocks "in_block1", "in_block2", ...

    A file does not tell the factor on the values nor how the variance is made.
    """
    from unclouded.models.uncrtaints import Config

    state = {_block_by_index(k.removeprefix("netG.")): v for k, v in _plain(tensors).items()}
    width, channels = state["in_conv.conv.conv.0.weight"].shape[:2]
    apart = "out_conv_mean_1.conv.conv.0.weight" in state
    if apart:
        means, variances = (len(state[f"out_conv_{part}_1.conv.conv.0.weight"]) for part in ("mean", "var"))
    else:
        means, variances = _means_and_variances(channels, len(state["out_conv.conv.conv.0.weight"]))
    covariance: dict[int, Literal["diag", "iso", "none"]] = {means: "diag", 1: "iso", 0: "none"}
    settings: dict[str, Any] = {"dates": 1}
    if "temporal_encoder.inconv.weight" in state:
        heads, key_width = state["temporal_encoder.attention_heads.Q"].shape
        model_width = len(state["temporal_encoder.inconv.weight"])
        settings = {"heads": heads, "key_width": key_width, "model_width": model_width, "values": "include_v.weight" in state}
    config = Config(
        bands=_bands(means), sar=channels == means + 2, width=width, blocks_before=_count(state, r"in_block\.(\d+)"),
        blocks_after=_count(state, r"out_block\.(\d+)"), covariance=covariance[variances], separate_heads=apart,
        as_published_padding=True, **settings, **told,
    )  # fmt: skip
    return config, state


def _block_by_index(name: str) -> str:
    return re.sub(r"^(in|out)_block(\d+)\.", lambda m: f"{m[1]}_block.{int(m[2]) - 1}.", name)


def _means_and_variances(channels: int, made: int) -> tuple[int, int]:
    """How many of the channels `made` are bands, by how many go in: with or without radar, variance for all, one or none."""
    for means in (len(L1C), len(RGB)):
        if channels - means in (0, 2) and made - means in (0, 1, means):
            return means, made - means
    raise ValueError(f"3 or 13 bands with or without radar, not {channels} channels in and {made} out")


def torch_utilise(tensors: Tensors, *, heads: int) -> tuple[utilise.Config, dict[str, Tensor]]:
    """The released code's names; 13 bands without radar. A file does not tell the number of heads."""
    from unclouded.models.utilise import Config

    state = _plain(tensors)
    levels = _count(state, r"down_blocks\.(\d+)")
    channels, bands = state["in_conv.conv.conv.0.weight"].shape[1], len(state["out_conv.conv.conv.2.weight"])
    if channels != bands:
        raise ValueError(f"as many bands in as out, not {channels} and {bands}")
    up = [state[f"up_blocks.{i}.up.convtrans.0.weight"].shape[:2] for i in range(levels)]  # deepest first
    key_width = len(state["temporal_encoder.0.attention_heads.fc_q.weight"]) // heads
    widths = [len(state[f"down_blocks.{i}.conv1.conv.0.weight"]) for i in range(levels)]
    config = Config(
        bands=_bands(bands), heads=heads, key_width=key_width, encoder=(len(state["in_conv.conv.conv.0.weight"]), *widths),
        decoder=(*(c_out for _, c_out in reversed(up)), up[0][0]),
    )  # fmt: skip
    return config, state


CRTS = "https://github.com/PatrickTUM/SEN12MS-CR-TS"
SEN12MSCR = "SEN12MS-CR; the published loader leaks 6 of 10 test regions into training"
PUBLISHED: dict[str, Published] = {
    "dsen2cr-keras": Published(
        model="dsen2cr", convert=keras_dsen2cr, url="https://github.com/ameraner/dsen2-cr", licence="GPL-3.0",
        trained_on="SEN12MS-CR, earlier release"),
    "dsen2cr-torch": Published(
        model="dsen2cr", convert=torch_dsen2cr, url="https://github.com/ameraner/dsen2-cr", licence="GPL-3.0",
        trained_on="SEN12MS-CR"),
    "glfcr": Published(
        model="glfcr-as-published", convert=torch_glfcr, url="https://github.com/xufangchn/GLF-CR",
        licence="none stated", trained_on=SEN12MSCR),
    "pix2pix": Published(
        model="pix2pix", convert=torch_pix2pix, url=CRTS,
        licence="none stated", trained_on=SEN12MSCR),
    "spagan": Published(
        model="spagan", convert=torch_spagan, url="https://github.com/Penn000/SpA-GAN_for_cloud_removal", licence="MIT",
        trained_on="RICE"),
    "seq2point": Published(
        model="seq2point", convert=torch_seq2point, url=CRTS, licence="none stated", trained_on="SEN12MS-CR-TS"),
    "stgan": Published(
        model="stgan", convert=torch_stgan, url="https://github.com/ermongroup/STGAN", licence="none stated",
        trained_on="its authors' Sentinel-2 pairs, or SEN12MS-CR-TS"),
    "uncrtaints": Published(
        model="uncrtaints", convert=torch_uncrtaints, url="https://github.com/PatrickTUM/UnCRtainTS",
        licence="MIT in the network's file; none stated for the weights", trained_on="SEN12MS-CR or SEN12MS-CR-TS",
        untold={"scale_by": 10.0, "variance": "softplus"}),
    "utilise": Published(
        model="utilise", convert=torch_utilise, url="https://github.com/prs-eth/U-TILISE", licence="MIT",
        trained_on="SEN12MS-CR-TS", untold={"heads": 4}),
}  # fmt: skip


def _drive(file: str) -> str:
    return f"https://drive.google.com/file/d/{file}/view"


def _meraner(file: str, loss: str, *, sar: bool, psnr: float, ssim: float, sam: float) -> Weights:
    return Weights(
        model="dsen2cr" if sar else "dsen2cr-optical", url=_drive(file), licence="GPL-3.0 (the repository's)",
        trained_on=f"SEN12MS-CR, earlier release; loss {loss}", citation="Meraner et al. 2020, Table 1",
        numbers={"psnr": psnr, "ssim": ssim, "sam": sam},
    )  # fmt: skip


# Files their authors offer. None is shipped or fetched here: licences differ or are not stated.
KNOWN: tuple[Weights, ...] = (
    _meraner("1L3YUVOnlg67H5VwlgYO9uC9iuNlq7VMg", "CARL", sar=True, psnr=28.7, ssim=0.875, sam=8.15),
    _meraner("1zv4_91Yr2IYyYDoqhZw8KpnfvfLhkuBB", "L1", sar=True, psnr=29.3, ssim=0.878, sam=8.07),
    _meraner("1VHZa5-lX68mA2FbHeCiQsUq13oECw9DA", "CARL", sar=False, psnr=27.6, ssim=0.870, sam=8.98),
    _meraner("11Th6UwKMXla7LGxsFJXwj-Jx9bSKlWUH", "L1", sar=False, psnr=28.8, ssim=0.873, sam=8.97),
    Weights(
        model="glfcr-as-published", url="https://github.com/xufangchn/GLF-CR", licence="none stated", trained_on=SEN12MSCR,
        citation="Xu et al. 2022, Table 1", numbers={"psnr": 29.0793, "ssim": 0.8855, "sam": 7.6455, "mae": 0.0266}),
    Weights(
        model="spagan", url="https://github.com/Penn000/SpA-GAN_for_cloud_removal", licence="MIT", trained_on="RICE1",
        citation="Pan 2020; the repository's README", numbers={"psnr": 30.232, "ssim": 0.954}),
    Weights(
        model="spagan", url="https://github.com/Penn000/SpA-GAN_for_cloud_removal", licence="MIT", trained_on="RICE2",
        citation="Pan 2020; the repository's README", numbers={"psnr": 28.368, "ssim": 0.906}),
)  # fmt: skip
