"""`python -m service.cli`: the same as `headshot-mirror`, for those who start it by module."""

from service.cli import main

main()
