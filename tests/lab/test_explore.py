"""explore: one plain call where nobody sits before the notebook, widgets where somebody does."""

from types import SimpleNamespace

import ipywidgets
import pytest

from conan_lib.lab import explore
from conan_lib.lab.explore import has_reader


def joined(first, text, size, kind, share=None):
    return " ".join(str(part) for part in (first, text, size, kind, share) if part is not None)


CONTROLS = {"text": "snow", "size": (2, 1, 8, 1), "kind": ["a", "b"]}


@pytest.fixture
def kernel(monkeypatch):
    """The kernel that asks for a cell, with what its request says of it."""

    def ask(metadata):
        shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda: {"metadata": metadata}))
        monkeypatch.setattr("IPython.get_ipython", lambda: shell)

    return ask


def test_a_script_gets_the_call_with_its_defaults():
    assert not has_reader()
    assert explore(joined, "the", **CONTROLS) == "the snow 2 a"


def test_papermill_gets_the_same(kernel):
    kernel({})
    assert explore(joined, "the", **CONTROLS) == "the snow 2 a"


def test_a_page_gets_widgets_that_begin_with_the_defaults(kernel, monkeypatch):
    kernel({"cellId": "cell-07"})
    made = []
    monkeypatch.setattr(ipywidgets, "interact", lambda function, **widgets: made.append(ipywidgets.interactive(function, **widgets)))
    assert explore(joined, "the", **CONTROLS, share=(0.1, 0.0, 1.0, 0.01)) is None
    (shown,) = made
    shown.update()
    assert shown.result == "the snow 2 a 0.1"
    text, size, kind, share = shown.children[:4]
    assert (share.value, share.min, share.max, share.step) == (0.1, 0.0, 1.0, 0.01) and kind.options == ("a", "b")
    text.value, size.value, kind.value = "rain", 5, "b"
    shown.update()
    assert shown.result == "the rain 5 b 0.1"


def test_a_users_mistake_is_one_line_in_a_notebook(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_cell("from conan_lib.errors import UserError\nraise UserError('stage weak has not been computed yet')")
    said = capsys.readouterr().out
    assert said.strip() == "UserError: stage weak has not been computed yet"
