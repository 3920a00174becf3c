"""Disks as the kernel has them: seen, claimed, wiped, partitioned and given to be filled."""
