"""Folding in time: a sample as windows, a feature map as lanes (docs/folding.md)."""
