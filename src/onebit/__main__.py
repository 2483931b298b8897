"""``python -m onebit`` (and torchrun's ``-m onebit``)."""

from onebit.cli import main

main()
