"""A small QKFormer on scikit-learn's 8x8 digits: ``qkformer.onnx``, 360 held-out images
``test.npz``, ``card.md``.
"""
