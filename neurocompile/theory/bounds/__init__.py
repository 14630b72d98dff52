"""The paper's statements as formulas, and what they say of a graph: nothing here runs a program."""
