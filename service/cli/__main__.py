"""`python -m service.cli`: the same as `headshot-mirror`, to start it by module."""

from service.cli import main

main()
