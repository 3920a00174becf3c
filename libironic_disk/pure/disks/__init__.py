"""A disk as it is, as it is to be, and the plan that leads from one to the other."""
