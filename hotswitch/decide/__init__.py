"""Deciding: facts in, decisions out. Pure and total: no clock, no I/O, no logging; time is an argument.

diagnose.py says what is wrong and how sure we are; levels.py says which level may be used; damping.py keeps a flapping
or induced fault from flapping the gate; engine.py puts them together, once per view. codes.py names every outcome.
"""

from hotswitch.decide.codes import MEANING, Code
from hotswitch.decide.diagnose import diagnose
from hotswitch.decide.engine import step
from hotswitch.decide.track import assess

__all__ = ["MEANING", "Code", "assess", "diagnose", "step"]
