"""What this installation is made of: versions, GDAL drivers, processor, memory, GPU."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scipy", "rasterio", "odc-geo", "safetensors", "s2cloudless", "distributed", "h5py")
DRIVERS = ("GTiff", "COG", "JP2OpenJPEG")


def examine() -> dict[str, Any]:
    """Plain data about versions, drivers and hardware; `missing` names what the main job cannot do without."""
    import torch
    from rasterio import __gdal_version__
    from rasterio.env import Env

    import unclouded

    with Env() as env:
        drivers = {name: name in env.drivers() for name in DRIVERS}
    return {
        "unclouded": unclouded.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gdal": __gdal_version__,
        "drivers": drivers,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory(),
        "torch_threads": torch.get_num_threads(),
        "bf16_cpu": _bf16(),
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "missing": [name for name, there in drivers.items() if not there],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX-512 BF16, AMX or Arm BF16)."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
