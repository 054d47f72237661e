"""Version 1: agent_pb2 is made from agent.proto by `make proto`."""
