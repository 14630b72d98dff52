"""The paper's tables, as printed. Claims: nothing is computed from them but the checks of the paper
against itself.
"""

from __future__ import annotations

__all__ = ["TABLE2", "TABLE3", "TABLE4", "TABLE5", "TABLE6"]

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

TABLE4: tuple[tuple[str, str, float, float | None, float], ...] = (
    ("CIFAR-10", "Spikformer-4-256", 0.932, 1.8e6, 2.41),
    ("CIFAR-10", "Spikformer-4-384", 0.941, 2.4e6, 2.35),
    ("CIFAR-10", "QKFormer-4-256", 0.948, 1.6e6, 2.18),
    ("CIFAR-10", "QKFormer-4-384", 0.952, 2.1e6, 2.12),
    ("CIFAR-10", "SpikingResformer-4", 0.954, 1.9e6, 2.08),
    ("CIFAR-100", "Spikformer-4-256", 0.751, 2.1e6, 2.63),
    ("CIFAR-100", "Spikformer-4-384", 0.773, 2.8e6, 2.51),
    ("CIFAR-100", "QKFormer-4-256", 0.789, 1.9e6, 2.29),
    ("CIFAR-100", "QKFormer-4-384", 0.801, 2.5e6, 2.24),
    ("CIFAR-100", "SpikingResformer-4", 0.806, 2.3e6, 2.19),
    ("SST-2", "SpikingBERT", 0.878, None, 2.14),
)
"""Dataset, model, accuracy, spikes (None where none is printed), ratio. SST-2's is in the text below the
table; BERT's accuracy is given there as 0.924."""

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
