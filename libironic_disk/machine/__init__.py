"""Rooms that touch the machine: devices, programs, mounts. They may use the pure rooms; never the other way round."""
