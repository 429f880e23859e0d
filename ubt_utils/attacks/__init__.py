"""Attacks: triggers by name, crafting, poisoning with a manifest, and the gate."""
