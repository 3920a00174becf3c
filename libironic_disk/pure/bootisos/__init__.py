"""Boot ISOs as values: what is in them that boots, and what changes in them."""
