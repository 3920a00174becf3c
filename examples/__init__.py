"""Programs that use the library as its callers do."""
