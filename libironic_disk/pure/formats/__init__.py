"""Image formats as bytes: what an image claims to be, and whether that is safe to believe."""
