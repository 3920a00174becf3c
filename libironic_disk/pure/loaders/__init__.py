"""Configuration files of boot loaders that somebody else wrote: kernels read, and their parameters changed."""
