"""A model of one's own: find a backdoor that nobody told of, and remove it. The same stages as everywhere;
nothing here knows a trigger, a target or the truth."""
