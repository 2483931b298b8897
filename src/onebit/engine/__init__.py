"""The C core from Python: `library` finds and declares it, `engine` runs models with it. No torch, nothing of `packed`."""
