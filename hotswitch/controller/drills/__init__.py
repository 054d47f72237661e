"""Drills that the leader orders: one pod of each workload in its turn, or by a person's word (S4.4, I3, I6)."""
