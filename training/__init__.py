"""Models: the demo catalogue, the demo labeller and how they are trained (floor 2)."""
