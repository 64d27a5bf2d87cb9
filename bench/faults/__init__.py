"""The fault suite: whatever fails while pyinfra changes a node, DNS there is at least as good as before."""
