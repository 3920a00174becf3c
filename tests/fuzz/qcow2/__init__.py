"""Parts of the target ``qcow2``."""
