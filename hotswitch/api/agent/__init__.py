"""The words of agent and controller on the wire: v1/agent.proto, and what they are in the model's values."""
