"""The calls of the library that faults are walked through, each with a disk or a folder to do it on."""
