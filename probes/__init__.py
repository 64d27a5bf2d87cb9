"""Ask: DNS and ICMP questions sent from a node, or from inside a pod on it, and what became of each try."""
