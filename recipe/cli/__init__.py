"""The command line: its commands, and all that is printed."""
