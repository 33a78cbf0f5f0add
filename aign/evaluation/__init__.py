"""What a number means (protocol), how it is computed (pose, alignment) and how it is shown (report, tables)."""
