"""Rooms without a door to the machine: nothing here opens a file, runs a program or asks the kernel."""
