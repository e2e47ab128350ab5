"""The command line: masac <command>."""
