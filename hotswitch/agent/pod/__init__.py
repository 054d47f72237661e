"""The agent of one pod: lives in it, guards it within what it was granted."""
