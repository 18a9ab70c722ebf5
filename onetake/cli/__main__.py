"""`python -m onetake.cli`: the command line without its installed script, for parts that the stack starts."""

from onetake.cli import main

if __name__ == "__main__":
    main()
