"""Image–caption pairs and where they come from."""
