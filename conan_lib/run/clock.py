"""How long a stage takes, from the manifests of finished ones."""

from collections.abc import Iterable

from conan_lib.files import read_json
from conan_lib.stages import Stage


class Clock:
    """The like stage is the one of the same name with the most equal parameters; its seconds are scaled by the ratio of the steps."""

    def __init__(self, stages: Iterable[Stage]):
        self._known: dict[str, list[tuple[dict, float]]] = {}
        for folder in {stage.path.parent for stage in stages}:
            for path in sorted(folder.glob("*/manifest.json")):
                self._remember(folder.name, read_json(path))

    def add(self, stage: Stage) -> None:
        """Take a stage into account that has finished since."""
        self._remember(stage.artefact.stage, stage.artefact.manifest)

    def seconds(self, stage: Stage) -> float | None:
        """Seconds that a stage may take; None where no like stage has finished."""
        own = _flat(stage.artefact.parameters)
        known = self._known.get(stage.artefact.stage)
        if not known:
            return None
        other, seconds = max(known, key=lambda one: sum(one[0].get(key) == value for key, value in own.items()))
        steps = next((key for key in own if key.endswith(".max_steps")), None)
        return seconds * own[steps] / other[steps] if steps and other.get(steps) else seconds

    def left(self, stages: Iterable[Stage]) -> str:
        """The time that stages may take one after the other, in words."""
        times = [self.seconds(stage) for stage in stages]
        known = sum(time for time in times if time is not None)
        unknown = sum(time is None for time in times)
        if unknown and unknown == len(times):
            return "time left unknown"
        minutes = round(known / 60)
        words = f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if known >= 60 else f"{known:.0f} s"
        return f"about {words} left" + (f", {unknown} stage{'s' * (unknown > 1)} not counted" if unknown else "")

    def _remember(self, name: str, manifest: dict) -> None:
        self._known.setdefault(name, []).append((_flat(manifest["parameters"]), manifest["seconds"]))


def _flat(tree: dict, prefix: str = "") -> dict:
    """Dotted key -> value."""
    found = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
