"""Patch a boot ISO of 4 GiB: libironic_disk, and cp and xorriso for comparison, on one file system."""
