"""GRUB's files and the firmware's entries, made and written."""
