"""Which devices a name stands for: ``cuda`` (all GPUs that torch sees), ``cuda:N``, ``torch-cpu``, or
``cpu``, where numpy and the emulator compute and torch is not needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from neurocompile.errors import NeurocompileError, argument, not_importable, shown

if TYPE_CHECKING:
    import torch

__all__ = ["check_device", "torch_devices"]


def check_device(device: object) -> str:
    """``device`` if it is the name of one; NC1015 otherwise. Nothing is imported."""
    if not isinstance(device, str) or not re.fullmatch(r"cpu|torch-cpu|cuda(:\d{1,3})?", device):
        raise NeurocompileError(
            "NC1015", f"device is {shown(device)}; cpu, cuda, cuda:N and torch-cpu are possible"
        )
    return device


def torch_devices(device: str) -> list[torch.device]:
    """torch's devices of that name: every GPU for ``cuda``. NC4001 without torch, NC4007 if the GPU is
    not there.
    """
    check_device(device)
    try:
        import torch
    except ImportError as error:
        raise not_importable(f"device {device}", error, "gpu") from error
    if device in ("cpu", "torch-cpu"):
        return [torch.device("cpu")]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise NeurocompileError(
            "NC4007",
            f"{argument('device', device)}, but torch finds no CUDA device; use {argument('device', 'cpu')}",
        )
    if device == "cuda":
        return [torch.device("cuda", i) for i in range(count)]
    index = int(device.partition(":")[2])
    if index >= count:
        raise NeurocompileError(
            "NC4007",
            f"{argument('device', device)}, but torch finds CUDA devices 0 to {count - 1} only",
        )
    return [torch.device("cuda", index)]
