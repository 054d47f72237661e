"""The agent of a node: finds its pods and their namespaces, and guards each within what it was granted."""
