"""Small edits of claims by rule: some keep what is said, some change it.

Both kinds are made of the same sentences and with the same surface changes, so that neither "copied from the
premise" nor "differs by a word from the premise" gives the label away.
"""
import re

NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?![\w,.]*\d)")
NAME = re.compile(r"[A-Z][\w'’-]*(?:\s+(?:of|the|de|von|van)\s+[A-Z][\w'’-]*|\s+[A-Z][\w'’-]*)*")
AUXILIARY = re.compile(r"\b(is|are|was|were|can|could|will|would|should|must|did|does|do)\b(?! not|n't)")
NEGATION = re.compile(r"\b(is|are|was|were|can|could|will|would|should|must|did|does|do|has|had|have) not\b|n't\b")
CLOSED = [
    ["January", "February", "March", "April", "June", "July", "August", "September", "October", "November", "December"],
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty"],
    ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"],
    ["hundred", "thousand", "million", "billion"], ["days", "weeks", "months", "years"], ["minutes", "hours"],
    ["day", "week", "month", "year", "decade", "century"], ["km", "miles", "metres", "feet"],
    ["kilometres", "miles"], ["meters", "feet", "inches"], ["kg", "pounds", "tons"], ["dollars", "pounds", "euros"],
    ["north", "south", "east", "west"], ["northern", "southern", "eastern", "western"],
    ["northeast", "northwest", "southeast", "southwest"], ["red", "blue", "green", "yellow", "black", "white"],
    ["British", "American", "French", "German", "Italian", "Spanish", "Australian", "Canadian", "Japanese", "Chinese",
     "Indian", "Russian", "Swedish", "Dutch", "Irish", "Scottish"],
    ["England", "France", "Germany", "Italy", "Spain", "Australia", "Canada", "Japan", "China", "India", "Russia"],
    ["actor", "singer", "writer", "director", "politician", "painter", "scientist", "lawyer"],
    ["film", "novel", "song", "album", "game", "play"], ["band", "company", "university", "team", "newspaper"],
    ["mother", "father", "brother", "sister", "son", "daughter", "wife", "husband"],
    ["city", "village", "river", "mountain", "lake", "island"], ["all", "some", "few", "none"],
    ["may", "must"], ["always", "never", "rarely"], ["before", "after"], ["first", "last"], ["more", "less"],
    ["most", "least"], ["best", "worst"], ["largest", "smallest"], ["highest", "lowest"], ["longest", "shortest"],
    ["oldest", "youngest"], ["early", "late"], ["increased", "decreased"], ["increase", "decrease"],
    ["rise", "fall"], ["rose", "fell"], ["won", "lost"], ["win", "lose"], ["born", "killed"], ["male", "female"],
    ["open", "closed"], ["above", "below"], ["inside", "outside"], ["left", "right"], ["old", "new"],
    ["high", "low"], ["large", "small"], ["long", "short"], ["good", "bad"], ["public", "private"], ["he", "she"],
    ["success", "failure"], ["successful", "unsuccessful"], ["strong", "weak"], ["accepted", "rejected"],
    ["allowed", "forbidden"], ["with", "without"], ["joined", "left"], ["bought", "sold"], ["began", "ended"],
    ["opened", "closed"], ["supported", "opposed"], ["upper", "lower"], ["married", "divorced"], ["rich", "poor"],
]
OTHERS = {}
for group in CLOSED:
    for member in group:
        OTHERS.setdefault(member, [other for other in group if other != member])
SYNONYMS = dict(pair.split("=") for pair in (
    "began=started;started=began;founded=established;established=founded;located=situated;approximately=about;"
    "film=movie;children=kids;large=big;largest=biggest;purchased=bought;bought=purchased;attempted=tried;"
    "assist=help;various=different;usually=typically;often=frequently;author=writer;near=close to;"
    "around=about;received=got;obtained=got;called=named;known as=called;such as=like;because=since;"
    "although=though;however=but;percent=%;movie=film;however,=but;shortly after=soon after;created=made;"
    "while=whereas;numerous=many;entire=whole;primarily=mainly;mainly=mostly;currently=now;"
    "United States=US;United Kingdom=UK;is not=isn't;was not=wasn't;did not=didn't;does not=doesn't;"
    "are not=aren't;cannot=can not;begin=start;ended=finished;died=passed away;roughly=about;doctor=physician;"
    "wrote=authored;produced=made;additionally=also;require=need;requires=needs;required=needed;allow=let;"
    "many=lots of;home=house;difficult=hard;important=significant;famous=well-known;over=more than").split(";"))
SYNONYM = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SYNONYMS), key=len, reverse=True)) + r")(?!\w)")
OPENERS = ("Yes, ", "Yeah, ", "Well, ", "I think ", "I know that ", "I believe ", "Oh, I love that! ", "Did you know ",
           "I'm not sure, but ", "That's interesting! ", "From what I know, ", "Sure! ", "According to the text, ",
           "Actually, ", "Fun fact: ", "I heard that ", "That's great! ", "Wow! ", "Oh nice. ", "Yes! ", "I agree, ",
           "I don't know much about it, but ", "It's true that ", "Based on the context, ", "Hi! ", "No, but ",
           "I'm not sure how it started, but ", "I've never been there, but I know that ", "I do! I read that ",
           "I don't think so, but ", "My friend told me that ", "I have no idea, but I know that ",
           "That's awesome! I've always liked it. ", "I'm pretty sure that ", "That's true. ", "Historically, ",
           "I've always wanted to learn more about it. ", "Oh yeah, ", "No problem! ", "Have you seen it? ")
CLOSERS = ("!", ", right?", ", I think.", ", I believe.", " ! It's really cool.", ". I love it!", ". Do you like it?",
           ", which is pretty cool!", ". Have you ever tried it?", ", as far as I know.")
CLAUSE = re.compile(r", (?:which|who|where|when|whose|including|with|as|while|although|after|before|making)\b[^,]*\.?$")
LEAD = re.compile(r"^(?:In|On|At|During|By|After|Since|From|For|However|Additionally|Also|Moreover|Furthermore|Finally|"
                  r"Today|Later|As)\b[^,.]{0,60}, ")
BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
PAST = "is|are|was|were|has|had|have|will|would|can|could|became|began|won|made|took|led|held|said|went|got|gave"
VERB = re.compile(rf"\b(?:{PAST}|\w{{3,}}ed)\b")


def names(text, opening=False):
    """Capitalised runs of a text; those that open it only where they have two words or `opening` is set."""
    found = []
    for match in NAME.finditer(text):
        opens = match.start() == 0 or text[:match.start()].rstrip().endswith((".", "!", "?", '"'))
        if len(match.group()) > 2 and (not opens or opening or " " in match.group()):
            found.append(match)
    return found


def put(text, match, new):
    return text[:match.start()] + new + text[match.end():]


def other_number(text, rng, document):
    """Another number in place of one; one that the document holds, if it has one of the same length."""
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    match = rng.choice(found)
    old = match.group()
    same = [n for n in NUMBER.findall(document) if len(n) == len(old) and n not in text]
    if same and rng.random() < 0.5:
        return put(text, match, rng.choice(same))
    digits = [i for i, char in enumerate(old) if char.isdigit()]
    place = rng.choice(digits[2:] if len(digits) == 4 and old[0] in "12" and "," not in old else digits)
    low = "1" if place == 0 else "0"
    new = rng.choice([d for d in "0123456789" if d >= low and d != old[place]])
    return put(text, match, old[:place] + new + old[place + 1:])


def other_name(text, rng, document):
    """Another name of the document in place of one."""
    found = names(text)
    pool = sorted({m.group() for m in names(document)} - {m.group() for m in found})
    pool = [name for name in pool if name not in text]
    if not found or not pool:
        return None
    match = rng.choice(found)
    alike = [name for name in pool if name.count(" ") == match.group().count(" ") and not name in match.group()]
    return put(text, match, rng.choice(alike)) if alike else None


def other_word(text, rng, document):
    """A word of a closed group (unit, direction, month, antonym) exchanged for another of that group."""
    found = [m for m in re.finditer(r"\b[A-Za-z]+\b", text) if m.group() in OTHERS]
    if not found:
        return None
    match = rng.choice(found)
    return put(text, match, rng.choice(OTHERS[match.group()]))


def negated(text, rng, document):
    """A `not` put in or taken out."""
    match = NEGATION.search(text)
    if match:
        return put(text, match, (match.group(1) or "").strip()).replace("  ", " ")
    match = AUXILIARY.search(text)
    return put(text, match, match.group() + rng.choice([" not", " not", " never"])) if match else None


def roles_swapped(text, rng, document):
    """Two names exchanged, where a verb stands between them."""
    found = names(text, opening=True)
    pairs = [(a, b) for a, b in zip(found, found[1:])
             if VERB.search(text[a.end():b.start()]) and len(text[a.end():b.start()]) < 60]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    return text[:a.start()] + b.group() + text[a.end():b.start()] + a.group() + text[b.end():]


def fused(text, rng, document):
    """The beginning of this sentence with the end of another: what summaries get wrong most."""
    head = VERB.search(text, 8)
    others = [(s, VERB.search(s, 8)) for s in document.split("\n") if s != text]
    others = [(s, m) for s, m in others if m and len(s) - m.start() > 20]
    if not head or not others:
        return None
    sentence, tail = rng.choice(others)
    return text[:head.start()] + sentence[tail.start():]


def added(text, rng, document):
    """A detail that the sentence does not have: a year or a name of the document, or a stray year."""
    pool = [n for n in NUMBER.findall(document) if len(n) == 4 and n not in text and n[0] in "12"]
    places = [m.group() for m in names(document) if m.group() not in text]
    extra = [f" in {n}" for n in pool[:3]] + [f" with {p}" for p in places[:3]] + [f" in {rng.randint(1900, 2020)}"]
    return text.rstrip(". ") + rng.choice(extra) + "."


FALSE_EDITS = ((other_number, 4), (other_name, 5), (other_word, 4), (negated, 3), (roles_swapped, 2), (fused, 3),
               (added, 1))


def changed(text, rng, document, allowed=FALSE_EDITS):
    """The claim with one thing changed, and whether the change contradicts it; None where no rule applies.

    `document` has a sentence a line.
    """
    left = list(allowed)
    while left:
        edit, _ = pick = rng.choices(left, [weight for _, weight in left])[0]
        new = edit(text, rng, document)
        if new and new != text:
            return new, edit not in (fused, added, roles_swapped)
        left.remove(pick)
    return None


def reworded(text, rng, strength=0.5):
    """The same claim with synonyms, without brackets, leading phrase or trailing clause."""
    if rng.random() < strength:
        text = BRACKETS.sub("", text)
    if rng.random() < strength * 0.6:
        shorter = CLAUSE.sub(".", text)
        text = shorter if len(shorter) > 40 else text
    if rng.random() < strength * 0.6:
        shorter = LEAD.sub("", text)
        text = shorter if len(shorter) > 40 else text
    return SYNONYM.sub(lambda m: SYNONYMS[m.group()] if rng.random() < strength else m.group(), text)


def in_dialogue(text, rng):
    """The claim as a chat partner would put it; what is claimed stays the same."""
    if rng.random() < 0.25:
        return text.rstrip(". ") + rng.choice(CLOSERS)
    return rng.choice(OPENERS) + text
