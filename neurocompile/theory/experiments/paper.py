"""The paper's tables, as printed. Claims: nothing is computed from them but the checks of the paper
against itself.
"""

from __future__ import annotations

__all__ = ["TABLE2", "TABLE3", "TABLE5", "TABLE6"]

TABLE2: tuple[tuple[int, float, int], ...] = (
    (4, 62.5e-3, 1_847),
    (8, 17.3e-3, 3_612),
    (16, 4.8e-3, 7_198),
    (32, 1.3e-3, 14_256),
    (64, 0.31e-3, 28_419),
)
"""T, MSE, spikes. "Predicted" is 1/T^2."""

TABLE3: tuple[tuple[float, int, int], ...] = (
    (0.10, 2_847, 1_024),
    (0.05, 10_392, 4_096),
    (0.02, 58_291, 25_600),
    (0.01, 221_847, 102_400),
)
"""Target epsilon, measured spikes, "Theo.", which is 10.24 / eps^2."""

TABLE5: tuple[tuple[str, float, float], ...] = (
    ("ViT-B/16", 84.5, 17.6),
    ("Spikformer-8-512", 74.8, 0.46),
    ("Meta-SpikeFormer", 80.0, 0.31),
    ("QKFormer", 85.7, 0.40),
    ("SpikingResformer", 85.0, 0.35),
)
"""Model, accuracy in percent, energy in mJ."""

TABLE6: tuple[tuple[str, float, float, int], ...] = (
    ("CIFAR-10", 0.93, 3.8, 4),
    ("CIFAR-10", 0.95, 5.2, 6),
    ("CIFAR-100", 0.78, 4.1, 4),
    ("CIFAR-100", 0.80, 5.7, 6),
    ("ImageNet-1K", 0.80, 4.5, 4),
    ("ImageNet-1K", 0.85, 6.8, 8),
    ("SST-2", 0.88, 4.2, 4),
)
"""Dataset, target accuracy, predicted T, best T."""
