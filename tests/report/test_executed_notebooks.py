"""Executed notebooks as pages."""

import nbformat.v4 as v4
from nbformat import write

from conan_lib.report.notebooks import export


def test_a_page_shows_results_and_nothing_that_was_for_the_moment(tmp_path):
    outputs = [
        v4.new_output("stream", name="stdout", text="a result\n"),
        v4.new_output("stream", name="stdout", text="\rstep 1/3, loss 6.9\rstep 2/3, loss 6.8"),
        v4.new_output("stream", name="stderr", text="a log line"),
        v4.new_output("display_data", {"text/plain": "Batches", "application/vnd.jupyter.widget-view+json": {"model_id": "abc"}}),
        v4.new_output("display_data", {"text/html": "<table><tr><td>a table</td></tr></table>", "text/plain": "table"}),
    ]
    write(v4.new_notebook(cells=[v4.new_code_cell("call()", outputs=outputs)]), tmp_path / "05_weak.ipynb")
    page = export(tmp_path / "05_weak.ipynb")
    assert "a result" in page and "<td>a table</td>" in page
    assert not [passed for passed in ("loss 6.", "a log line", "Batches", "widget", "<script") if passed in page]
