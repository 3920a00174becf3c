"""Config drives as bytes: what is in one, and the two file systems that hold it."""
