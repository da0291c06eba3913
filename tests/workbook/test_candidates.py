"""The numbers that were tried are judged by kernel: on one side every time, or not."""

from __future__ import annotations

import pandas as pd
import pytest

import helpers as rc


def rows(**numbers) -> pd.DataFrame:
    return pd.DataFrame({"case": ["a"] * 4, "triton": "3.5.1", "edit": "", "changed": 0,
                         "dies": [True, True, False, False], **numbers})  # fmt: skip


@pytest.mark.parametrize(
    ("values", "separates"),
    [([5, 6, 1, 4], 1), ([1, 2, 3, 4], 1), ([5, 6, 1, 5], 0), ([1, 9, 4, 5], 0), ([1, 1, 1, 1], 0), ([2, 3, 3, 4], 0)],
)
def test_a_number_separates_only_where_no_value_is_shared_or_crossed(values, separates):
    table = rc.candidate_table(rows(tried=values))
    assert table["kernels it separates"].tolist() == [separates] and table["kernels tried"].tolist() == [1]


def test_kernels_of_which_all_texts_end_alike_are_not_counted():
    alike = rows(tried=[1, 2, 3, 4]).assign(case="b", dies=False)
    table = rc.candidate_table(pd.concat([rows(tried=[5, 6, 1, 4]), alike]))
    assert table["kernels tried"].tolist() == [1]
    with pytest.raises(rc.UserError, match="no number that was tried"):
        rc.candidate_table(rows())


def test_no_number_tried_so_far_tells_the_two_apart():
    table = rc.candidate_table(rc.read_rows("pressure_candidates")).set_index("number read from the PTX")
    assert len(table) == 6 and set(table["kernels tried"]) == {7}
    assert table.loc["demand", "kernels it separates"] == 0
    assert table["kernels it separates"].max() < 7
