"""The zoo's manifest, as export changes it: rows by kind, numbers that are never used again, and names."""

import json
import re
import tomllib
from collections import Counter
from itertools import chain
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from corec import methods
from corec.codecs.base import MODELS
from corec.codecs.registry import codecs
from corec.errors import ModelError
from corec.learned import format as corec_file
from corec.models import PLAIN, name_at

PAIR = "compact", "reconstruct"
MANIFEST = "manifest.toml"
MEASURED = {"corec", "jpeg-best", "mozjpeg"}
"""What `corec evaluate` calls contenders that are neither a model nor a codec."""
Manifest = dict[str, list[dict[str, Any]]]
"""Rows by their kind: model, learned, retired."""


def manifest_of(zoo: Path) -> Manifest:
    """The manifest as it stands in a zoo, or one without rows. Raises ModelError for a damaged one."""
    path = zoo / MANIFEST
    try:
        manifest = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    return {kind: manifest.get(kind, []) for kind in ("model", "learned", "retired")}


def entered(kind: str, entries: list[dict[str, Any]], before: Manifest, force: bool) -> Manifest:
    """The manifest with new rows of a kind, model or learned; rows of the same names go, if force is set, and their
    numbers retire.

    Rows without a number get the next free one. Of the learned codec's models, one for gray and one for colour is
    the default: a new one takes the old one's place. Raises ModelError.
    """
    rows = {known: [*some] for known, some in before.items()}
    taken = {0} | {r["number"] for some in rows.values() for r in some}  # 0 is the codec alone
    first = next((entry["number"] for entry in entries if entry["number"] is not None), max(taken) + 1)
    names = [entry["name"] for entry in entries]
    for number, entry in enumerate(entries, first):
        if number < 0:
            raise ModelError(f"model numbers begin at 1, and {number} is none")
        if number >= MODELS:
            raise ModelError(f"model numbers end at {MODELS - 1}: no file has room for {number}")
        if number in taken:
            raise ModelError(f"model number {number} is taken and may never change its meaning")
        entry["number"] = number
        if kind == "learned" and entry["default"]:
            for other in rows["learned"]:
                other["default"] &= other["color"] != entry["color"]
    for known in ("model", "learned"):
        replaced = [r for r in rows[known] if r["name"] in names]
        if replaced and not force:
            name = replaced[0]["name"]
            raise ModelError(f"there is a model {name}; --force replaces it, and its files can no longer be read then")
        rows["retired"] += [{"number": r["number"], "name": r["name"]} for r in replaced]
        rows[known] = [r for r in rows[known] if r not in replaced]
        for other in rows[known]:
            if shared := files_of(other) & files_of(entries[0]):
                raise ModelError(f"{min(shared)} is a file of model {other['name']} too: take another name")
    rows[kind] = sorted([*rows[kind], *entries], key=lambda r: r["number"])
    called = Counter(name for known in ("model", "learned") for row in rows[known] for name in names_of(row))
    for name in chain(*map(names_of, entries)):
        if called[name] > 1:
            raise ModelError(f"{name} is what another model is called: take another name")
    return with_new_luma(rows, entries, before)


def with_new_luma(rows: Manifest, entries: list[dict[str, Any]], before: Manifest) -> Manifest:
    """The same where models in colour, whose luma is restored by a gray one's network that was replaced by one of the
    entries, take the new one's: that makes them others, with numbers of their own."""
    new = {entry["name"]: entry for entry in entries}
    replaced = {row["number"]: (row, new[row["name"]]) for row in before["model"] if row["name"] in new}
    last = max(row["number"] for some in rows.values() for row in some)
    for row in [row for row in rows["model"] if row.get("luma") in replaced]:
        old, gray = replaced[row["luma"]]
        if any(gray.get(fact) != old[fact] for fact in ("color", "codec", "ratio")):
            raise ModelError(
                f"{row['name']} looks through {old['name']}, which this one cannot replace: take another name"
            )
        last += 1
        rows["retired"].append({"number": row["number"], "name": row["name"]})
        rows["model"].remove(row)
        rows["model"].append(row | {"number": last, "luma": gray["number"]})
    return rows


def all_files(manifest: Manifest) -> set[str]:
    """The names of all models' files."""
    return set().union(*(files_of(row) for kind in ("model", "learned") for row in manifest[kind]))


def names_of(row: dict[str, Any]) -> list[str]:
    """What a model is called, at its other sizes too."""
    return [row["name"], *(name_at(row["name"], scale) for scale in row.get("scales", ()))]


def files_of(row: dict[str, Any]) -> set[str]:
    """The names of a model's files."""
    return {*row.get("files", {}).values(), *(row[part] for part in (*PAIR, "slope") if row.get(part))}


def written(manifest: Manifest) -> str:
    """The manifest as TOML: under each kind its rows, and their own tables."""
    parts = ["# Written by `corec export`. A number never changes its meaning.\n"]
    for kind, rows in manifest.items():
        for row in rows:
            parts.append(f"[[{kind}]]")
            parts += [f"{k} = {value(v)}" for k, v in row.items() if not isinstance(v, dict)]
            for name, table in row.items():
                if isinstance(table, dict):
                    parts.append(f"[{kind}.{name}]")
                    parts += [f"{k} = {value(v)}" for k, v in table.items()]
            parts.append("")
    return "\n".join(parts)


def value(item: Any) -> str:
    """A TOML value: string, boolean, number or list of these."""
    if isinstance(item, str):
        text = item.encode("utf-8", "backslashreplace").decode()  # names of folders need not be text
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, list):
        return "[" + ", ".join(value(v) for v in item) + "]"
    return str(item)


def check_name(name: str) -> None:
    """Refuse what cannot name a model: it is part of file names, and asked for where methods and codecs are, too.
    Raises ModelError."""
    taken = {
        PLAIN,
        corec_file.NAME,
        *MEASURED,
        *(codec.NAME for codec in codecs()),
        *(module.name for module in iter_modules(methods.__path__)),
    }
    if name in taken:
        raise ModelError(f"{name} is the name of something else: take another")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ModelError(f"a model's name has letters, digits, '.', '_' and '-' only, not {name!r}")
