"""The `hotswitch` command: what people type, and how answers are shown."""
