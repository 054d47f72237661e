"""Endpoints as Istio's own configuration: ServiceEntry and DestinationRule, for a mesh that takes nothing else."""
