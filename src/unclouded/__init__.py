"""Remove clouds from Sentinel-2 images with the help of Sentinel-1 radar."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unclouded.models import MODELS as MODELS
    from unclouded.models import load as load
    from unclouded.products.product import Product as Product
    from unclouded.products.product import load_product as load_product
    from unclouded.remove import remove_clouds as remove_clouds
    from unclouded.sample import Batch as Batch
    from unclouded.sample import Place as Place
    from unclouded.sample import Prediction as Prediction
    from unclouded.sample import Sample as Sample
    from unclouded.scenes.open import open_scene as open_scene

_PUBLIC = {  # name -> module; imported when first used, so that `import unclouded` stays quick
    "remove_clouds": "remove",
    "open_scene": "scenes.open",
    "load_product": "products.product", "Product": "products.product",
    "load": "models", "MODELS": "models",
    "Sample": "sample", "Batch": "sample", "Prediction": "sample", "Place": "sample",
}  # fmt: skip

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'unclouded' has no attribute '{name}'")
    return getattr(import_module(f"unclouded.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
