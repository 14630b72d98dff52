"""One small model of each family on scikit-learn's 8x8 digits: ``NAME.onnx`` each, and a card for
all.
"""
