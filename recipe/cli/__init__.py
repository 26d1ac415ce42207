"""The command line: its verbs, and all that is printed."""
