"""Config drives made and read with other people's programs and libraries."""
