"""Float64 matrices where spectra are computed: numpy's, or torch's on a device.

Both have the same operators, sums along ``axis`` and boolean indices; what differs is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Algebra", "algebra_on"]


class Algebra:
    """numpy on the CPU."""

    def array(self, values: np.ndarray) -> Any:
        """Values (or a boolean mask) where the sums are made."""
        return values

    def zeros(self, *shape: int) -> Any:
        """Float64 zeros there."""
        return np.zeros(shape)

    def numpy(self, values: Any) -> np.ndarray:
        """Values back."""
        return np.asarray(values)

    def basis(self, values: Any) -> Any:
        """Orthonormal columns that span the same space (QR)."""
        return np.linalg.qr(values)[0]

    def eigenvalues(self, values: Any) -> np.ndarray:
        """Of a symmetric matrix, ascending."""
        return np.linalg.eigvalsh(values)


class _Torch(Algebra):
    def __init__(self, device: str) -> None:
        from neurocompile.gpu.devices import torch_devices

        self.device = torch_devices(device)[0]
        import torch

        self.torch = torch

    def array(self, values: np.ndarray) -> Any:
        return self.torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def zeros(self, *shape: int) -> Any:
        return self.torch.zeros(shape, dtype=self.torch.float64, device=self.device)

    def numpy(self, values: Any) -> np.ndarray:
        found: np.ndarray = values.cpu().numpy()
        return found

    def basis(self, values: Any) -> Any:
        return self.torch.linalg.qr(values)[0]

    def eigenvalues(self, values: Any) -> np.ndarray:
        return self.numpy(self.torch.linalg.eigvalsh(values))


def algebra_on(device: str) -> Algebra:
    """numpy for ``cpu``, else torch in float64 on the first device of that name.

    Raises:
        NeurocompileError: NC1015 for no name of a device, NC4001 without torch, NC4007 without the GPU.
    """
    from neurocompile.gpu.devices import check_device

    return Algebra() if check_device(device) == "cpu" else _Torch(device)
