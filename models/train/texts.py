"""Cuts texts into sentences and windows roughly as the service does, so that training sees what production asks."""
import math
import re
from collections import Counter

ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "st", "jr", "sr", "vs", "no", "vol", "inc", "ltd", "co", "gen", "col", "sen",
                 "rep", "gov", "prof", "approx", "ca", "c", "e.g", "i.e", "u.s", "u.k", "fig", "mt", "lt", "sgt", "rev"}
BOUNDARY = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")
WORD = re.compile(r"\w+(?:['’]\w+)?")


def sentences(text):
    """The sentences of a text, in order; a full stop after an abbreviation or an initial ends none."""
    found, start = [], 0
    for match in BOUNDARY.finditer(text):
        before = text[start:match.start()].rstrip("\"')] ")
        last = before.rsplit(None, 1)[-1].rstrip(".").lower() if before.strip() else ""
        if "\n" not in match.group() and before.endswith(".") and (last in ABBREVIATIONS or len(last) == 1):
            continue
        if text[start:match.start()].strip():
            found.append(text[start:match.end()].strip())
        start = match.end()
    if text[start:].strip():
        found.append(text[start:].strip())
    return found


def length(text):
    """Words of a text, as the budgets of this package count them; a word is about 1.35 tokens."""
    return text.count(" ") + 1


def fold(word):
    """Folds case and the commonest endings, so that `Wars` meets `war`."""
    word = word.lower()
    for ending in ("'s", "’s", "ies", "ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) >= len(ending) + 3:
            return word[:-len(ending)]
    return word


def words(text):
    """The set of folded words of a text."""
    return {fold(word) for word in WORD.findall(text)}


def pieces(parts, budget):
    """Parts no longer than the budget: longer ones are cut between words."""
    for part in parts:
        split = part.split()
        for start in range(0, len(split), budget):
            yield " ".join(split[start:start + budget])


def runs(parts, budget):
    """Overlapping runs of neighbouring parts within a budget of words: (first, after the last)."""
    found, first = [], 0
    while first < len(parts):
        end, used = first, 0
        while end < len(parts) and (end == first or used + length(parts[end]) <= budget):
            used += length(parts[end])
            end += 1
        found.append((first, end))
        if end == len(parts):
            break
        first = max(first + 1, end - 1)
    return found


def best_window(premise, claim, budget):
    """The run of sentences that shares most of the claim's words, the rare ones counting more."""
    if length(premise) <= budget:
        return premise
    parts = list(pieces(sentences(premise), budget))
    windows = [" ".join(parts[first:end]) for first, end in runs(parts, budget)]
    bags = [words(window) for window in windows]
    wanted = words(claim)
    counts = Counter(word for bag in bags for word in bag & wanted)
    total = len(bags)
    weight = {word: math.log(1 + (total - n + 0.5) / (n + 0.5)) for word, n in counts.items()}
    scores = [sum(weight[word] for word in sorted(bag & wanted)) for bag in bags]
    return windows[max(range(total), key=scores.__getitem__)]


def window_around(parts, first, end, budget, rng):
    """The parts first..end and as many neighbours, on randomly chosen sides, as the budget allows."""
    used = sum(length(part) for part in parts[first:end])
    while True:
        sides = []
        if first > 0 and used + length(parts[first - 1]) <= budget:
            sides.append("before")
        if end < len(parts) and used + length(parts[end]) <= budget:
            sides.append("after")
        if not sides:
            return " ".join(parts[first:end])
        if rng.choice(sides) == "before":
            first -= 1
            used += length(parts[first])
        else:
            used += length(parts[end])
            end += 1
