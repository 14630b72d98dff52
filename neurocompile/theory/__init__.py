"""The theory of Guo, Wu, Yiu, "Closing the Theory-Practice Gap in Spiking Transformers via
Effective Dimension" (arXiv:2604.15769), as functions, and what it says about a program beside what
the emulator measures.

Every statement of the paper carries a status (:mod:`neurocompile.theory.bounds.statements`): its formulas
were lost in the copy that we read, so most are reconstructed from the proofs' techniques, and one
cannot be recovered. docs/theory.md has the findings.
"""
