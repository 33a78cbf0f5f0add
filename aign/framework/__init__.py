"""The abstraction every task is built from, and nothing else. Import from its modules: the errors need no torch."""
