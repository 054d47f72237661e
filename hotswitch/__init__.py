"""hotswitch: sees a failed Istio sidecar, proves it, and lets traffic go on within milliseconds (S4)."""

__version__ = "0.1.0"
