"""Volumes on several disks: seen, taken apart, made."""
