"""The preflight: what a bypass of a pod's proxy would give away or break, by code (I2). Pure, like all of decide/.

mtls.py, authorization.py, extension.py, clients.py, outbound.py, shape.py and doubts.py each hold one family of rules;
preflight.py asks them all; result.py takes what they refuse out of a policy; codes.py names every outcome.
"""

from hotswitch.decide.preflight.codes import MEANING, Code, acceptable
from hotswitch.decide.preflight.preflight import preflight
from hotswitch.decide.preflight.result import Finding, Preflight, Verdict

__all__ = ["MEANING", "Code", "Finding", "Preflight", "Verdict", "acceptable", "preflight"]
