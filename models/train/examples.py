"""Makes one round of training pairs: rows of the sets, cut to windows or put among foreign sentences, and own pairs."""
import random
import zlib
from collections import defaultdict

import edits
import texts
from sets import CONTRADICTION, ENTAILMENT, NEUTRAL, PARAGRAPHS, SOURCES, UNSUPPORTED, Pair

# Words of a premise in each phase; a word is about 1.35 tokens.
BUDGET = {"short": (12, 62), "long": (40, 165)}
# Share of the long phase's premises that stay as short as in the short phase, so that it forgets nothing.
STILL_SHORT = 0.5
# Own pairs of one round: from paragraphs, from edited entailed claims, with another premise.
OWN = {"short": (22000, 9000, 5000), "long": (19000, 5000, 4000)}
FOREIGN_SHARE = {"short": 0.15, "long": 0.6}
DIALOGUE_SHARE = 0.15
# Share of its words that a cropped window must hold for a claim to stay supported.
COVERED = 0.6
# Sets whose claims are edits already.
ALREADY_EDITED = ("synth_swaps", "conjnli", "scone")
# Sets whose premises are about one thing that has a name.
ABOUT_NAMES = ("fever_dev", "fool_me_twice", "begin", "saunli_wiki")


class Maker:
    """Makes pairs for one phase; everything random comes from one seed. `own` is the share of the own pairs that is
    made."""

    def __init__(self, sets, phase, seed, own=1.0):
        self.sets, self.phase, self.own = sets, phase, own
        self.rng = random.Random(seed)
        self.documents = documents(sets)
        self.strays = [part for doc in self.documents for part in doc if 5 <= texts.length(part) <= 35]

    def round(self):
        """All pairs of one round, shuffled."""
        pairs = []
        for name, source in SOURCES.items():
            rows = self.sample(self.sets.get(name, []), getattr(source, self.phase))
            for row in rows:
                pairs += self.natural(name, row, source.plain)
        from_paragraphs, edited, foreign = (round(self.own * count) for count in OWN[self.phase])
        pairs += [pair for _ in range(from_paragraphs if self.documents else 0) if (pair := self.from_paragraph())]
        pairs += self.edited_claims(edited)
        pairs += self.foreign_premises(foreign)
        self.rng.shuffle(pairs)
        return pairs

    def sample(self, rows, count):
        """`count` rows, each as often as any other."""
        chosen = []
        while rows and len(chosen) < count:
            chosen += self.rng.sample(rows, min(len(rows), count - len(chosen)))
        return chosen

    def budget(self):
        short = self.phase == "long" and self.rng.random() < STILL_SHORT
        return self.rng.randint(*BUDGET["short" if short else self.phase])

    def natural(self, name, row, plain):
        """A row as production would ask it: a premise no longer than a window, at times with foreign sentences."""
        premise, claim, label = row
        if name == "infotabs":
            premise = self.table_as_text(premise)
        most = self.budget()
        if texts.length(premise) > most:
            cropped = self.cropped(premise, claim, label, most)
            if not cropped:
                return []
            premise, label = cropped
        elif plain and self.rng.random() < FOREIGN_SHARE[self.phase]:
            premise = self.with_strays(premise, most)
        if plain and self.rng.random() < 0.1:
            claim = edits.reworded(claim, self.rng)
        if plain and self.rng.random() < DIALOGUE_SHARE:
            claim = edits.in_dialogue(claim, self.rng)
        return [Pair(premise, claim, label)]

    def cropped(self, premise, claim, label, most):
        """The window that production would choose. A supported claim keeps its label only if the window holds most
        of its words; what contradicts it may be outside, so a contradiction becomes just unsupported."""
        if label == ENTAILMENT:
            most = max(most, BUDGET[self.phase][1])
        window = texts.best_window(premise, claim, most)
        if label == ENTAILMENT and window != premise and coverage(claim, window) < COVERED:
            return None
        return window, UNSUPPORTED if label == CONTRADICTION and window != premise else label

    def with_strays(self, premise, most):
        """The premise between sentences of other texts, up to a number of words."""
        before, after, used = [], [], texts.length(premise)
        for _ in range(8):
            stray = self.rng.choice(self.strays) if self.strays else ""
            used += texts.length(stray)
            if not stray or used > most:
                break
            self.rng.choice((before, after)).append(stray)
        return " ".join(before + [premise] + after)

    def table_as_text(self, table):
        """A `key: value` table as it stands, or as sentences about its title."""
        title, *lines = table.split("\n")
        if self.rng.random() < 0.4:
            return table
        links = (" of " + title + " is", " is", " is")
        joined = [line.replace(":", self.rng.choice(links), 1) for line in lines]
        return title + ". " + ". ".join(joined)

    def from_paragraph(self):
        """A sentence or two of a paragraph as claim: kept, changed, or taken out of the paragraph."""
        rng = self.rng
        document = rng.choice(self.documents)
        at = rng.randrange(len(document))
        end = min(len(document), at + (2 if rng.random() < 0.12 else 1))
        own = " ".join(document[at:end])
        if not (5 <= texts.length(own) <= 60 and own[0].isupper()):
            return None
        case = rng.random()
        kept = rng.random() < 0.3
        claim = own if kept else edits.reworded(own, rng, rng.choice((0.3, 0.6, 0.9)))
        most = self.budget()
        premise = texts.window_around(document, at, end, most, rng)
        label = ENTAILMENT
        if case > 0.8:
            rest = document[:at] + document[end:]
            if not rest:
                return None
            premise, label = texts.best_window("\n".join(rest), claim, most), NEUTRAL
        elif case > 0.42:
            change = edits.changed(claim, rng, "\n".join(document))
            if not change:
                return None
            claim, contradicts = change
            label = CONTRADICTION if contradicts else UNSUPPORTED
        if rng.random() < DIALOGUE_SHARE:
            claim = edits.in_dialogue(claim, rng)
        return Pair(premise, claim, label)

    def edited_claims(self, count):
        """Entailed claims of the plain sets with one thing changed, which makes them false or unfounded."""
        most = BUDGET[self.phase][1]
        pool = [row for name, rows in self.sets.items() if SOURCES[name].plain and name not in ALREADY_EDITED
                for row in rows if row.label == ENTAILMENT and texts.length(row.premise) <= most]
        pairs = []
        for row in self.sample(pool, count):
            lines = "\n".join(texts.sentences(row.premise) + self.rng.sample(self.strays, min(1, len(self.strays))))
            change = edits.changed(row.claim, self.rng, lines)
            if change:
                premise = row.premise
                if self.rng.random() < FOREIGN_SHARE[self.phase]:
                    premise = self.with_strays(premise, self.budget())
                pairs.append(Pair(premise, change[0], CONTRADICTION if change[1] else UNSUPPORTED))
        return pairs

    def foreign_premises(self, count):
        """Claims with the premise of another claim about the same name: similar, but not the evidence."""
        rows = [row for name in ABOUT_NAMES for row in self.sets.get(name, [])]
        by_name = defaultdict(list)
        for index, row in enumerate(rows):
            for name in sorted({match.group() for match in edits.names(row.premise, opening=True)}):
                by_name[name].append(index)
        pairs = []
        for row in self.sample([row for row in rows if row.label == ENTAILMENT], count):
            shared = [by_name[m.group()] for m in edits.names(row.claim, opening=True) if len(by_name[m.group()]) > 1]
            for index in self.rng.sample(shared[0], min(4, len(shared[0]))) if shared else []:
                other = rows[index].premise
                if other != row.premise and coverage(row.claim, other) < 0.5 and coverage(row.premise, other) < 0.6:
                    window = texts.best_window(other, row.claim, self.budget())
                    pairs.append(Pair(self.with_strays(window, self.budget()), row.claim, NEUTRAL))
                    break
        return pairs


def coverage(claim, premise):
    """Share of the claim's words that the premise holds."""
    wanted = texts.words(claim)
    return len(wanted & texts.words(premise)) / max(1, len(wanted))


def documents(sets):
    """The distinct paragraphs, as lists of sentences, of the sets that have whole ones."""
    premises = {row.premise for name in PARAGRAPHS for row in sets.get(name, [])}
    # A paragraph comes cut in several ways: one of each beginning is enough.
    premises = {premise[:60]: premise for premise in sorted(premises)}
    split = (texts.sentences(premise) for premise in premises.values())
    return [parts for parts in split if len(parts) >= 3]


def seed_of(*parts):
    """The same seed for the same parts in every run."""
    return zlib.crc32(repr(parts).encode())
