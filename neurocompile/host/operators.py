"""ONNX operators that the host part of a model may have: plain functions of tensors, without a body,
randomness or state.
"""

from __future__ import annotations

__all__ = ["ALONG", "BINARY", "HOST_LAYERS", "HOST_OPERATORS", "HOST_VIEWS", "REDUCTIONS", "UNARY"]

UNARY = frozenset(
    "Abs Acos Asin Atan Cast Ceil Celu Clip Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt "
    "Swish Tan Tanh ThresholdedRelu".split()
)
"""Act on each element alone; further operands are constants."""
BINARY = frozenset(
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub "
    "Sum Where Xor".split()
)
"""Act on the elements of operands that broadcast."""
ALONG = frozenset("LayerNormalization LogSoftmax LpNormalization RMSNormalization Softmax".split())
"""Act along axes, and keep the shape."""
REDUCTIONS = frozenset(
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
    "ReduceProd ReduceSum ReduceSumSquare".split()
)
_LAYERS = frozenset(
    "AveragePool BatchNormalization Conv ConvTranspose Einsum Gemm GlobalAveragePool GlobalMaxPool "
    "GroupNormalization InstanceNormalization MatMul MaxPool Resize".split()
)
HOST_VIEWS = frozenset(
    "Concat Dropout Expand Flatten Gather Identity Pad Reshape Slice Split Squeeze Transpose "
    "Unsqueeze".split()
)
HOST_LAYERS = (UNARY | BINARY | ALONG | REDUCTIONS | _LAYERS) - {"Cast"}
"""What computes; views only move elements."""
HOST_OPERATORS = HOST_LAYERS | HOST_VIEWS | {"Cast"}
