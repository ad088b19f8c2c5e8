"""MNIST: the reference trainer and its frozen baseline."""
