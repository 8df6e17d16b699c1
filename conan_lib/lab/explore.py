"""One call for a notebook that is played with and for one that is run: widgets for a reader, the defaults for papermill."""

from collections.abc import Callable
from typing import Any


def explore(function: Callable[..., Any], *fixed: Any, **controls: Any) -> Any:
    """Show `function(*fixed, **values)`, and again whenever a reader changes a value.

    Where no reader sits before the notebook (papermill, a script), it is one plain call with the defaults.

    Args:
        function: returns what is shown.
        fixed: its first arguments, a stage mostly.
        controls: by name, a text to edit, a list to choose from (the default first), or (default, low, high, step) for a slider.

    Returns:
        What the function returns; None where widgets show it.
    """
    if not has_reader():
        return function(*fixed, **{name: default(control) for name, control in controls.items()})
    import ipywidgets

    def call(**values: Any) -> Any:  # interact takes no partial
        return function(*fixed, **values)

    ipywidgets.interact(call, **{name: _widget(control) for name, control in controls.items()})
    return None


def default(control: Any) -> Any:
    """The value that a control starts with."""
    return control[0] if isinstance(control, list | tuple) else control


def has_reader() -> bool:
    """Whether the cell that runs was sent by a notebook page: those name the cell, papermill and nbclient do not."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and "cellId" in (kernel.get_parent() or {}).get("metadata", {})


def _widget(control: Any) -> Any:
    import ipywidgets

    layout = ipywidgets.Layout(width="46em")
    if isinstance(control, str):  # the function is called when the text is finished, not at every letter
        return ipywidgets.Text(control, continuous_update=False, layout=layout)
    if isinstance(control, tuple):
        value, low, high, step = control
        slider = ipywidgets.FloatSlider if isinstance(value, float) else ipywidgets.IntSlider
        return slider(value, min=low, max=high, step=step, continuous_update=False, layout=layout)
    return ipywidgets.Dropdown(options=control, value=control[0])
