"""What becomes of a whole-disk image's disk besides the image itself."""
