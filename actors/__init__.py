"""Ray actors that hold the models, the consumers and the writer (floor 3)."""
