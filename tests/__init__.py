"""Tests. `checked` checks the types of every call in them: whole numbers are floats, as they are for mypy.

beartype looks at one item of a list, drawn by chance: without this a 1 among floats fails a test now and then.
"""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
