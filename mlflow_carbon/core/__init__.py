"""The arithmetic: pure functions and frozen values, no I/O, clock, thread or vendor library."""
