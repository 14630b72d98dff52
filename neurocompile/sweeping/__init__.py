"""Many builds of one model, side by side: accuracy, spikes, cores, steps, packets and energy over T,
bits, folds and targets (docs/sweep.md).
"""
