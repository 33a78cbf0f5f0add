"""The edge: Ray pipelines and the command line. No mathematics here."""
