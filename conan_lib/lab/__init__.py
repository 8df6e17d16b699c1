"""What the notebooks' "Try it" parts call: small experiments with a reader's own text on the finished stages of a run.

Nothing here trains, and nothing writes an artefact that a stage reads. Each function takes a stage and plain values, and returns what a
notebook shows. In a notebook's process transformers shows no bars for the files of a model, which are many and take no time.
"""

from transformers.utils.logging import disable_progress_bar

from conan_lib.lab.absent import absent, shown
from conan_lib.lab.explore import explore
from conan_lib.lab.parameters import changes, parameters
from conan_lib.lab.tables import numbers, texts

__all__ = ["absent", "changes", "explore", "numbers", "parameters", "shown", "texts"]

disable_progress_bar()
