"""How a plan says no."""


class Refused(Exception):
    """What the policy asks for cannot work on this node; the message says why, and nothing is changed."""
