"""Partition and format Ironic's full layout: libironic_disk and ironic-python-agent in turns on one loop device."""
