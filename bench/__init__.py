"""Speed claims, measured: hotswitch against nobody, the source's way and a plain bypass, side by side in one run.

Each row of the goals table is a module in `rows`; what is compared are the actors in `actors`. Nothing here asserts on
time: `python -m bench` says what was measured, what the goal is and whether it was met, and fails only if it could not
measure. `python -m bench.stress` is the other question: does hotswitch ever act on a proxy that is merely slow? (S4.2b)
"""
