"""Files of virtual media on this machine: who has which machine's, and how much room they may take."""
