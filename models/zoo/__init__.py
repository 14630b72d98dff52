"""Trained models that ship with neurocompile, each with its data, its card and the script that made
it.
"""
