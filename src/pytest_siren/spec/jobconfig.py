"""A job's own ``config.yaml`` as an eval file, whichever tool recorded it."""

from __future__ import annotations

from pathlib import Path

from pytest_siren.spec.newline import as_jinja_has_it
from pytest_siren.spec.origin import with_origin
from pytest_siren.yamlpos.nodes import Node, branch, with_value, without

_MARKS = ("job_name", "execution_mode", "created_at")
"""Keys that every job's configuration has, and no other eval file."""
_RECORDED = frozenset(
    {
        *_MARKS,
        *(
            "n_runs_per_task",
            "session_id",
            "identity",
            "schema_version",
            "eval_file",
            "attack_name",
        ),
        *("cell", "sources", "dataset_name", "dataset_suite", "model_label", "model_kind"),
        *("sweep_id", "planned_runs", "invocation", "overrides", "decided", "not_needed"),
    }
)
"""Keys that say what became of the job; the others say what it is."""
_RUNS_ALIAS = ("execution", "n_runs_per_task")


def is_job_config(root: Node) -> bool:
    """Whether ``root`` is the configuration that a job was recorded with."""
    return all(root.child(key) is not None for key in _MARKS)


def recorded_config(root: Node, path: Path) -> Node:
    """Return the configuration ``root``, read from ``path``, with all that is known of its job."""
    return with_origin(root, path) if _is_theirs(root) else root


def as_eval_file(root: Node) -> Node:
    """Return the eval file that makes the job of the configuration ``root`` again."""
    assert isinstance(root.value, dict)
    kept = {key: node for key, node in root.value.items() if key not in _RECORDED}
    runs, mode = root.child("n_runs_per_task"), root.child("execution_mode")
    if runs is not None and "runs" not in kept:
        kept["runs"] = runs
    if mode is not None and mode.value == "benign":
        kept.pop("attack", None)
        if _is_theirs(root):
            # prompt-siren's benign mode runs every task.
            kept["malicious_as_benign"] = Node(True, mode.place)
    tree = branch(kept, root.place)
    if tree.at(_RUNS_ALIAS) is not None:
        tree = without(tree, _RUNS_ALIAS)
    name, attack = root.child("attack_name"), tree.child("attack")
    named = attack is None or not isinstance(attack.value, dict) or "name" in attack.value
    if name is not None and name.value is not None and not named:
        tree = with_value(tree, ("attack", "name"), name)
    attack = tree.child("attack")
    if attack is not None and _is_theirs(root):
        tree = with_value(tree, ("attack",), as_jinja_has_it(attack))
    return tree


def _is_theirs(root: Node) -> bool:
    """Whether prompt-siren made the job, which may have been resumed here."""
    session = root.child("session_id")
    return session is None or session.value == ""


def base_of(root: Node, path: Path, shown: Path) -> Path:
    """Return the folder that relative paths in the configuration ``path`` start from.

    That is the folder of the eval file that the job was made from, where it is there still, and
    for jobs of prompt-siren, which has no eval files, the current one.
    """
    file = root.child("eval_file")
    if file is None or not isinstance(file.value, str) or _is_theirs(root):
        return Path.cwd()
    depth = len(shown.parts)
    root_folder = path.absolute().parents[depth - 1] if not shown.is_absolute() else Path.cwd()
    found = root_folder / file.value
    return found.parent if found.is_file() else path.parent
