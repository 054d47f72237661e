"""The stand-in for pilot-agent: answers the app's rewritten probes by asking the app, while pilot-agent is away (S4.2).

Istio turns the app's probes into requests to pilot-agent, which dies with its Envoy; the kubelet, refused three times,
then kills a healthy app. asking.py asks what the app declared, health_check.py in gRPC, http1.py reads what both sides
say, server.py listens in the pod. Who leads requests here, and when, is the gate's and the agent's matter.
"""
