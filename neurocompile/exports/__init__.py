"""Programs in the words of other tools."""
