"""The rows of the goals table. Each module has NAMES, and `run(names, settings, say)`, which yields a Row for each."""
