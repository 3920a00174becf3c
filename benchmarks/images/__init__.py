"""Write images to a disk: libironic_disk and the programs that do the same, in turns."""
