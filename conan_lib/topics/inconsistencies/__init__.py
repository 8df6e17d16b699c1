"""Where the paper is inconsistent."""

import pandas as pd

from conan_lib.findings.blocks import Table
from conan_lib.findings.published import inconsistencies
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic


def show(run: Run) -> dict:
    caption = "Keep these in mind with any comparison; claims and sections refer to them by number."
    frame = pd.DataFrame(list(inconsistencies().items()), columns=["number", "inconsistency"])
    return {"table": Table("inconsistencies", caption, frame, ("paper",))}


TOPIC = Topic("inconsistencies", "Inconsistencies in the paper", "Inconsistencies", 170, show, folded=True)
