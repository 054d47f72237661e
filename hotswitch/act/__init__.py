"""Doing what was decided, in order, once, and only to the pod that was meant (I5, I6)."""
