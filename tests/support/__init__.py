"""What tests of several folders share: ``from support.programs import programs, pictures``."""
