"""The SMPL-format body: its numbers, posing it, and motions on its joints."""
