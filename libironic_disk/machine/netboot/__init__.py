"""The directory that a TFTP or HTTP server publishes: files written into it, and taken out again."""
