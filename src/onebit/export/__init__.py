"""Packed models for other worlds: each target is one module that reads a packed model and writes what its users need."""
