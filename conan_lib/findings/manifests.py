"""Stages as frames: what each committed, its parameters, where and when it ran."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from conan_lib.data import language_text
from conan_lib.files import read_json
from conan_lib.findings.blocks import Table
from conan_lib.findings.run import Run
from conan_lib.stages import Stage


def results_table(stage: Stage) -> pd.DataFrame:
    """Every committed number of a stage, nested ones by their path, except those with a table of their own (bits_per_byte, loss)."""
    results = {name: value for name, value in stage.results.items() if name not in ("bits_per_byte", "loss") or not isinstance(value, dict)}
    return pd.DataFrame(list(_flat(results)), columns=["result", "value"], dtype=object)  # integers stay integers


def parameters_table(stages: Iterable[Stage]) -> pd.DataFrame:
    """The parameters that the stages' keys hash, each once: columns parameter, value."""
    found: dict[str, Any] = {}
    for stage in stages:
        for section, values in stage.artefact.parameters.items():
            for name, value in values.items():
                found.setdefault(f"{section}.{name}", value)
    return pd.DataFrame(list(found.items()), columns=["parameter", "value"], dtype=object)


def stages_table(stages: Mapping[str, Stage]) -> pd.DataFrame:
    """Every stage of a run: its artefact, status, seconds, seed and time of finishing."""
    rows = []
    for name, stage in stages.items():
        manifest = stage.artefact.manifest if stage.finished else {}
        seeds = [section["seed"] for section in stage.artefact.parameters.values() if "seed" in section]
        rows.append(
            {
                "stage": name,
                "artefact": f"{stage.artefact.stage}/{stage.key}",
                "status": stage.status,
                "seconds": manifest.get("seconds"),
                "seed": seeds[0] if seeds else None,
                "peak memory (MB)": manifest.get("peak_memory_mb"),
                "finished": manifest.get("finished_at"),
            }
        )
    frame = pd.DataFrame(rows, dtype=object)
    return frame if frame["peak memory (MB)"].notna().any() else frame.drop(columns="peak memory (MB)")


def environment_table(manifests: Iterable[dict]) -> pd.DataFrame:
    """Machine, device, versions and git revision of a run; where stages differ, each value is listed."""
    found: dict[str, list[str]] = {}
    for manifest in manifests:
        environment = manifest["environment"]
        packages = {f"package {name}": version for name, version in environment["packages"].items()}
        for name, value in {**{k: v for k, v in environment.items() if k != "packages"}, **packages}.items():
            values = found.setdefault(name, [])
            text = "not recorded" if value is None else str(value)
            if text not in values:
                values.append(text)
    return pd.DataFrame([(name, ", ".join(values)) for name, values in found.items()], columns=["what", "value"])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of dotted path and value; a mapping of plain values (by language, say) is one pair."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values()):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def stages_block(id: str, caption: str, run: Run) -> Table:
    """The table of a run's stages, to which citations lead."""
    frame, done = stages_table(run.stages), run.manifests.values()
    both = {"seconds": sum(one["seconds"] for one in done), "finished": max((one["finished_at"] for one in done), default=None)}
    frame.loc[len(frame)] = {name: None for name in frame} | {"stage": "all", "status": f"{len(done)} of {len(frame)} finished"} | both
    return Table(
        id,
        caption,
        frame,
        ("manifests",),
        {"seconds": "not recorded", "finished": "not recorded"},
        keys=("artefact",),
        anchors=("artefact",),
    )


def training_text(stage: Stage) -> pd.DataFrame:
    """Stage `corpus`: characters of the documents that language models read, source by language."""
    counted, documents = stage.path / "training_text.json", stage.path / "documents.parquet"  # an older corpus has the latter alone
    rows = read_json(counted) if counted.is_file() else language_text.training_text(documents)
    rows = pd.DataFrame(rows, columns=["source", "lang", "characters"])
    return rows.pivot_table(index="source", columns="lang", values="characters", aggfunc="sum", fill_value=0)
