"""Several operating systems on one machine: what they are, which volumes each has, and where these lie."""
