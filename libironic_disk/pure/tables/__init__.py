"""Partition tables as bytes: GPT and MBR, decoded from and encoded to sectors."""
