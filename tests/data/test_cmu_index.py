"""CMU's text index: its lines, and one name for each kind of motion."""

import pytest

from aign.data.datasets.motion.cmu_index import action_of, read_index
from aign.framework.errors import UserError

INDEX = """Carnegie-Mellon Graphics Lab Motion Capture Database
  full file listing with descriptions, word processor format

CMU says: \N{LEFT DOUBLE QUOTATION MARK}start with 31_01 and higher\N{RIGHT DOUBLE QUOTATION MARK}.

Subject #6 (dribble, shoot basketball)

06_01\twalk
06_02\tbasketball - forward dribble

Subject #8 (walk)
08_11   slow walk/stride
 08_12\t Unknown
08_13\t
143_42\tclimb, step over
"""


@pytest.mark.parametrize("code", ["utf-8", "cp1252"])
def test_lines_with_tabs_and_spaces_are_read_and_nothing_else(tmp_path, code):
    path = tmp_path / "cmu-mocap-index-text.txt"
    path.write_bytes(INDEX.encode(code))
    assert read_index(path) == {"06_01": "Walking", "06_02": "Basketball", "08_11": "Walking", "143_42": "Climb"}


@pytest.mark.parametrize(
    ("description", "action"),
    [
        ("walk on uneven terrain", "Walking"),
        ("navigate - walk forward, backward", "Navigate"),
        ("run, 90-degree left turn", "Running"),
        ("runway model", "Runway model"),
        ("A sits; B pulls up A (2 subjects - subject A)", "A sits"),
        ("walk; B catches keys", "Walking"),
        ("(nobody knows)", "(nobody knows)"),
    ],
)
def test_one_name_for_each_kind_of_motion(description, action):
    assert action_of(description) == action


def test_a_text_that_is_no_index_is_told_in_one_line(tmp_path):
    (tmp_path / "index.txt").write_text("Subject #1 (climb)\n")
    with pytest.raises(UserError, match=r"index.txt: no line of an index in it, such as '07_01  walk'") as refused:
        read_index(tmp_path / "index.txt")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_index(tmp_path / "gone.txt")
