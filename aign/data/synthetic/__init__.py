"""The synthetic human factory: the default body, dressed and lit, in front of real photographs, with exact labels."""
