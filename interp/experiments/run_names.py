"""What a run is named by: a hash over everything that changes what is measured, so that equal settings find the same run."""

import dataclasses
import hashlib
import json
from pathlib import Path

from interp.assets import sha256_once
from interp.experiments.experiment import Experiment
from interp.models.identity import ModelFacts


def run_hash(experiment: Experiment, facts: ModelFacts) -> str:
    """Returns the 12 digits that name a run: a sha256 over everything that changes what is measured.

    The experiment, its whole configuration, the contents of the files it names, the model's weights and precision, and
    the version of the tables; and the day on which chats take place, where one is written into prompts. Where the model came
    from by which name does not count, nor where a run lies that is read.
    """
    configuration = experiment.configuration()
    for field in ("model", "revision", "dtype", *(name for name in experiment.reads if configuration[name])):
        del configuration[field]
    for name in experiment.of_weights:
        del configuration[name]
    for field in dataclasses.fields(experiment):
        if field.metadata.get("unnamed_at_default") and getattr(experiment, field.name) == field.default:
            configuration.pop(field.name, None)
    identity = dataclasses.asdict(facts.identity)
    del identity["name"], identity["base"], identity["loras"]  # the revision is one of all
    if facts.identity.is_local:
        del identity["source"]  # the revision is a sha256 of the files, wherever they lie
    named = {
        "experiment": experiment.name,
        "schema_version": experiment.schema_version,
        "configuration": configuration,
        "model": identity,
        "files": [content_sha256(path) for path in experiment.input_files()],
    }
    if facts.chat_date is not None and experiment.writes_chats:
        named["chat_date"] = facts.chat_date
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:12]


def content_sha256(path: Path) -> str:
    """Returns a sha256 of a file's bytes, or of a folder's file names and bytes."""
    if path.is_file():
        return sha256_once(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path)} {sha256_once(file)}\n".encode())
    return digest.hexdigest()
