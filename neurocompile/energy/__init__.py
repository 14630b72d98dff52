"""Counts, energy and time of a program: measured on the emulator or modelled from rates, priced
under named profiles.
"""
