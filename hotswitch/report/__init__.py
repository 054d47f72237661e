"""What hotswitch did, for people and for machines (I8): journal, metrics."""
