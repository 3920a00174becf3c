"""File systems of strangers: mounted so that nobody sees it, and walked so that nothing leads out."""
