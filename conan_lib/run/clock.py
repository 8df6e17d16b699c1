"""How long a stage takes, from the manifests of finished ones."""

import csv
from collections.abc import Iterable
from pathlib import Path

from conan_lib.files import read_json
from conan_lib.params.grid import flat
from conan_lib.stages import Stage


class Clock:
    """The like stage is the one of the same name with the most equal parameters; its seconds are scaled by the ratio of the steps.

    Args:
        stages: those whose time will be asked for.
        typical: a CSV with columns stage and seconds, for stages of which none has finished here: a committed report has one.
    """

    def __init__(self, stages: Iterable[Stage], typical: Path | None = None):
        self._known: dict[str, list[tuple[dict, float]]] = {}
        rows = csv.DictReader(typical.read_text(encoding="utf-8").splitlines()) if typical and typical.is_file() else ()
        self._typical = {row["stage"]: float(row["seconds"]) for row in rows if row["seconds"]}
        for folder in {stage.path.parent for stage in stages}:
            for path in sorted(folder.glob("*/manifest.json")):
                self._remember(folder.name, read_json(path))

    def add(self, stage: Stage) -> None:
        """Take a stage into account that has finished since."""
        self._remember(stage.artefact.stage, stage.artefact.manifest)

    def seconds(self, stage: Stage) -> float | None:
        """Seconds that a stage may take; None where no like stage has finished."""
        own = flat(stage.artefact.parameters)
        known = self._known.get(stage.artefact.stage)
        if not known:
            return self._typical.get(stage.name)
        other, seconds = max(known, key=lambda one: sum(one[0].get(key) == value for key, value in own.items()))
        steps = next((key for key in own if key.endswith(".max_steps")), None)
        return seconds * own[steps] / other[steps] if steps and other.get(steps) else seconds

    def left(self, stages: Iterable[Stage]) -> str:
        """The time that stages may take one after the other, in words; empty where no like stage is known."""
        times = [self.seconds(stage) for stage in stages]
        known = sum(time for time in times if time is not None)
        unknown = sum(time is None for time in times)
        if unknown == len(times):
            return ""
        minutes = round(known / 60)
        words = f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if known >= 60 else f"{known:.0f} s"
        return f"about {words} left" + (f", {unknown} stage{'s' * (unknown > 1)} not counted" if unknown else "")

    def _remember(self, name: str, manifest: dict) -> None:
        self._known.setdefault(name, []).append((flat(manifest["parameters"]), manifest["seconds"]))
