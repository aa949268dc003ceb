"""The training sets that the shipped model may see, and nothing else.

A set is read only if it is listed here with a permissive licence. Where the data folder has a README.md with a
table of licence flags, a listed set that is not flagged P there is refused too.
"""
import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ENTAILMENT, NEUTRAL, CONTRADICTION, UNSUPPORTED = range(4)
LABELS = {"entailment": ENTAILMENT, "supported": ENTAILMENT, "neutral": NEUTRAL, "contradiction": CONTRADICTION,
          "unsupported": UNSUPPORTED}


class Pair(NamedTuple):
    """A premise, a claim about it, and one of the four labels."""
    premise: str
    claim: str
    label: int


@dataclass(frozen=True)
class Source:
    """How often a round of each phase uses a set; more than it has repeats it. `plain` claims are sentences that
    may be edited, put into dialogue or joined; the others are questions, fragments or templates."""
    licence: str
    short: int
    long: int
    plain: bool = True


SOURCES = {
    "mnli_train_sample": Source("MultiNLI licence", 15000, 8000),
    "fever_dev": Source("CC BY-SA 3.0", 18000, 11000),
    "cad_snli": Source("CC BY-SA 4.0, Apache-2.0", 7000, 2500),
    "saunli_wiki": Source("CC BY-SA 3.0", 6000, 2500),
    "infotabs": Source("Apache-2.0", 5000, 4000),
    "scitail_dev": Source("Apache-2.0", 2100, 1000),
    "fool_me_twice": Source("Apache-2.0, CC BY-SA", 3480, 3480),
    "begin": Source("CC BY 4.0", 1600, 960),
    "faithdial_audit": Source("MIT", 1480, 1480),
    "contract_nli": Source("CC BY 4.0", 1000, 2500),
    "squad2_qa": Source("CC BY-SA 4.0", 4000, 5400),
    "boolq_qa": Source("CC BY-SA 3.0", 600, 1500, plain=False),
    "condaqa": Source("Apache-2.0", 900, 1500, plain=False),
    "conjnli": Source("MIT", 2500, 1000),
    "scone": Source("CC0 1.0", 1200, 300),
    "synth_swaps": Source("CC BY-SA", 0, 3000),
    "cur_entailment_tree": Source("MIT", 1000, 700, plain=False),
    "cur_kg_relations": Source("MIT", 2000, 700),
    "cur_coreference": Source("MIT", 2000, 700, plain=False),
    "cur_drop": Source("MIT, CC BY-SA 4.0", 0, 2500, plain=False),
    "cur_temporal": Source("MIT", 800, 500, plain=False),
    "cur_cosmoqa": Source("MIT", 0, 800, plain=False),
    "cur_ner": Source("MIT", 300, 0, plain=False),
    "cur_negation": Source("MIT", 600, 0, plain=False),
    "cur_counting": Source("MIT", 400, 0, plain=False),
    "cur_quantifier": Source("MIT", 400, 0, plain=False),
    "cur_comparative": Source("MIT", 400, 0, plain=False),
    "cur_conditional": Source("MIT", 300, 0, plain=False),
    "cur_boolean": Source("MIT", 200, 0, plain=False),
}
# Sets whose premises are paragraphs that own examples are made of.
PARAGRAPHS = ("squad2_qa", "boolq_qa", "condaqa", "cur_drop", "synth_swaps")
# Its passages have no clear licence: used only to keep them out of synth_swaps, never trained on.
UNCLEAR_PASSAGES = "multirc_qa"


def read(path, split="train"):
    """The pairs of one split of one file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Pair(r["premise"].strip(), r["hypothesis"].strip(), LABELS[r["label"]]) for r in rows if r["split"] == split]


def flags(folder):
    """Licence flag of each set, as the data folder's README.md states it; empty where there is none."""
    readme = Path(folder) / "README.md"
    if not readme.exists():
        return {}
    rows = re.findall(r"^\| (\w+) \| [AB] \| ([PU]) \|", readme.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


def load(folder):
    """The permitted sets that the folder holds, by name; says on standard output what is missing or refused."""
    stated, found = flags(folder), {}
    for name in SOURCES:
        path = Path(folder) / f"{name}.jsonl.gz"
        if not path.exists():
            print(f"{name}: not in {folder}, left out", flush=True)
        elif stated.get(name, "P") != "P":
            print(f"{name}: flagged {stated[name]} in {folder}/README.md, refused", flush=True)
        else:
            found[name] = read(path)
    if not found:
        raise SystemExit(f"no training set in {folder}")
    if "synth_swaps" in found:
        found["synth_swaps"] = without_unclear(found["synth_swaps"], Path(folder) / f"{UNCLEAR_PASSAGES}.jsonl.gz")
    return found


def without_unclear(pairs, path):
    """The pairs whose premise shares no eight words with a passage of unclear licence; none if that is unknown."""
    if not path.exists():
        print(f"synth_swaps: left out, for {path.name} is needed to tell its passages of unclear licence", flush=True)
        return []
    unclear = set()
    for premise in {pair.premise for pair in read(path)}:
        unclear |= eights(premise)
    verdict = {premise: eights(premise).isdisjoint(unclear) for premise in {pair.premise for pair in pairs}}
    kept = [pair for pair in pairs if verdict[pair.premise]]
    print(f"synth_swaps: {len(pairs) - len(kept)} of {len(pairs)} pairs left out, licence of the passage unclear")
    return kept


def eights(text):
    """Every run of eight words."""
    found = re.findall(r"\w+", text.lower())
    return {" ".join(found[start:start + 8]) for start in range(len(found) - 7)}
