"""Defenses: a backdoored model in, a model out. UBT is one of them."""

DEFENSES = ("ubt", "finetune")
