"""Core images: what a mapping loads into each core, as tables (docs/core_images.md)."""

from __future__ import annotations

from neurocompile.images.build import CoreImages, build_images
from neurocompile.images.file import load_images, save_images
from neurocompile.images.image import CoreImage, HostImage

__all__ = ["CoreImage", "CoreImages", "HostImage", "build_images", "load_images", "save_images"]
