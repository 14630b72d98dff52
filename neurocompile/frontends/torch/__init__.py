"""Torch modules: neurons become marker operators, the module a file in memory."""
