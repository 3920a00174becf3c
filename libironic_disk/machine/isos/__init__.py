"""ISO images in files: opened, written, and changed by xorriso."""
