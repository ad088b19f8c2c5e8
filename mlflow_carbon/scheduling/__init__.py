"""When and where to run: an order, advice on it from the grid, the wait, and what it has saved.

The arithmetic is in `core` (forecasters, policies, plans); here it meets the grid, the clock and the disk.
"""
