"""Data sets: names and files (`catalog`, `readers`, `folder`), augmentation and feeding to the training device."""
