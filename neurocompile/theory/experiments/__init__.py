"""The paper's experiments, run again: one module each, with a function that measures and one that
draws.
"""
