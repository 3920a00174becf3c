"""Images as bytes: their formats, their compression, their checksums."""
