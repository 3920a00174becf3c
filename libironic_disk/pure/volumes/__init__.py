"""Volumes on several disks, as values: what they are to look like, what was seen, and what will be done."""
