"""Booting over the network, as values: who boots what, file names, configurations, DHCP options, plans."""
