"""The command line, ``kdlab``: its options, what the commands do, and the tables that they print."""

from kdlab.cli.app import main as main
