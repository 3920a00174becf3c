"""ISO 9660 images that firmware boots from: read as they are, and changed as ropes."""
