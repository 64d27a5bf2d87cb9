"""Nodes as virtual machines, for a machine whose own kernel has no ip_vs."""
