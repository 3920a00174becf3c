"""Images on their way: where they come from, and what is done to them before they reach the disk."""
