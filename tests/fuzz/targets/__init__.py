"""What is fuzzed: each module that has a ``TARGET`` is one."""
