"""UBT for CLIP: inject a backdoor, find it, unlearn it, and measure honestly."""

__version__ = "0.2.0"
