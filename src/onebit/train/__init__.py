"""Training: schedule, optimizer, precision, checkpoint, trainer and evaluation, each in a file of its own."""
