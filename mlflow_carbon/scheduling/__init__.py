"""What makes a training run when the grid is clean: plans handed to whatever starts it."""
