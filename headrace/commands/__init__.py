"""The commands, grouped by who uses them. Imports of the rooms are inside the functions: `--help` stays fast."""
