"""Neurons that an exporter unrolled, looped or wrote a step at a time, recovered by algebra."""
