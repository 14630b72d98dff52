"""The parts of ``passes/quantize.py``: a file for each kind of layer."""
