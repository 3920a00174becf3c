"""Boot loaders as text and bytes: menus, kernel parameters, and the sectors that a BIOS starts."""
