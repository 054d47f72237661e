"""Pods made of real network namespaces with a real Envoy sidecar: for the demo, tests, benches and drills. No cluster.

Start at `sandbox.Sandbox`. Whatever is made here belongs to one process and is removed with it (`estate`). This file
stays empty of imports, because app, pilot and load are processes of their own that should start fast.
"""
