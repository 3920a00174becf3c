"""How fast and how large libironic_disk is, next to the programs that do the same: ``make bench``."""
