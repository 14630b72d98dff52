"""Runs of programs as jobs of a Slurm cluster, by submitit, whose local executor runs the same code
here (docs/cluster.md).
"""
