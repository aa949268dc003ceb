//! Phrases that tell what states nothing, lower-cased and without punctuation.

/// Whole sentences that state nothing.
#[rustfmt::skip]
pub(super) const COURTESIES: &[&str] = &[
    "hello", "hi", "hey", "hi there", "hello there", "hey there", "greetings", "welcome", "good morning",
    "good afternoon", "good evening", "thanks", "thank you", "thanks a lot", "thank you very much",
    "thank you so much", "thanks for asking", "thank you for asking", "you're welcome", "you are welcome",
    "no problem", "sure", "sure thing", "of course", "certainly", "absolutely", "great question",
    "good question", "what a great question", "happy to help", "glad to help", "glad i could help",
    "best regards", "kind regards", "regards", "best", "sincerely", "yours sincerely", "cheers",
    "take care", "goodbye", "bye", "see you", "have a great day", "have a nice day", "have a good day",
    "good luck", "i'm sorry", "i am sorry", "sorry", "my apologies", "i apologize", "i apologise",
    "here you go", "that's a great question", "that is a great question", "that's a good question",
    "no worries", "how can i help you today", "how are you",
];

/// Beginnings of sentences that state nothing to their end.
#[rustfmt::skip]
pub(super) const COURTESY_STARTS: &[&str] = &[
    "hope this helps", "i hope this helps", "hope that helps", "i hope that helps", "hope it helps",
    "i hope this answers", "hope this answers", "i hope this information", "let me know if",
    "please let me know", "just let me know", "feel free to ask", "feel free to reach",
    "please feel free to", "feel free to contact", "feel free to let me know", "don't hesitate to",
    "please don't hesitate", "do not hesitate to", "please do not hesitate",
    "if you have any other questions", "if you have any more questions",
    "if you have any further questions", "if you have any questions", "if you have more questions",
    "if you have other questions", "if you need any further", "if you need more help",
    "if you need further", "if you'd like more", "if you would like more", "if you want more details",
    "i'd be happy to help", "i would be happy to help", "i'm happy to help", "i'm here to help",
    "i am here to help", "thank you for your question", "thanks for your question",
    "thank you for reaching out", "thanks for reaching out", "thank you for contacting",
    "thank you for your patience", "would you like me to", "is there anything else",
];

/// Beginnings of lead-ins, which end in a colon.
#[rustfmt::skip]
pub(super) const LEAD_INS: &[&str] = &[
    "here is", "here are", "here's", "here're", "below is", "below are", "the following", "let me",
    "let's", "see below", "in summary", "to summarize", "in short", "answer", "the answer", "final answer",
    "summary", "explanation", "note", "for example", "for instance", "i found", "this is how", "these are",
    "this includes",
];

/// Nouns that `here is a …` hands over without stating anything.
#[rustfmt::skip]
pub(super) const HANDED_OVER: &[&str] = &[
    "summary", "list", "breakdown", "overview", "answer", "table", "rundown", "explanation", "response",
];

/// Short words of assent or feeling, which say little by themselves.
#[rustfmt::skip]
pub(super) const WEAK: &[&str] = &[
    "yes", "no", "yeah", "yep", "nope", "ok", "okay", "right", "exactly", "indeed", "true", "correct",
    "wow", "oh", "ah", "cool", "nice", "awesome", "great", "amazing", "interesting", "really", "i agree",
    "me too", "i see", "i know", "i know right", "that's true", "that is true", "that's right",
    "that is right", "that's correct", "that is correct", "that's cool", "that is cool", "that's awesome",
    "that is awesome", "that's great", "that is great", "that's interesting", "that is interesting",
    "that's amazing", "that's a good point", "good point", "i think so", "i don't think so", "i hope so",
    "lol", "haha", "that's nice", "that is nice", "very cool", "so cool", "yes i do", "no i don't",
    "yes it is", "yes i am", "i do", "i do too", "i am too", "same here", "yes they are", "yes it does",
    "that's so cool",
];

/// What may stand before the body of a sentence.
#[rustfmt::skip]
pub(super) const INTERJECTIONS: &[&str] = &[
    "i'm sorry but", "i am sorry but", "i'm sorry", "i am sorry", "sorry but", "sorry", "unfortunately",
    "i apologize but", "i apologise but", "i apologize for the confusion but", "i apologize", "sure",
    "hello", "hi", "of course", "certainly", "absolutely", "okay", "ok", "well", "thanks", "thank you",
    "great", "based on the provided context", "based on the provided information",
    "based on the given context", "based on the context provided", "based on the context",
    "based on the information provided", "based on the available information",
    "according to the provided context", "as an ai language model", "as an ai", "as a language model",
    "from the provided context", "from the context", "at this time", "currently", "however", "but",
];

/// Beginnings of refusals, after interjections.
#[rustfmt::skip]
pub(super) const REFUSALS: &[&str] = &[
    "i don't know", "i do not know", "i can't help", "i cannot help", "i can not help", "i can't assist",
    "i cannot assist", "i can't answer", "i cannot answer", "i can't provide", "i cannot provide",
    "i can't comply", "i cannot comply", "i can't do that", "i cannot do that", "i can't fulfill",
    "i cannot fulfill", "i can't discuss", "i cannot discuss", "i can't share", "i cannot share",
    "i can't determine", "i cannot determine", "i can't confirm", "i cannot confirm", "i can't verify",
    "i cannot verify", "i can't tell", "i cannot tell", "i can't find any", "i cannot find any",
    "i could not find", "i couldn't find", "i did not find", "i didn't find", "i'm unable to",
    "i am unable to", "i'm not able to", "i am not able to", "i won't be able to", "i will not be able to",
    "i don't have enough", "i do not have enough", "i don't have any information",
    "i do not have any information", "i don't have information", "i do not have information",
    "i don't have access", "i do not have access", "i don't have the information",
    "i do not have the information", "i have no information", "i'm not sure", "i am not sure",
    "there is no information", "there isn't any information", "there is not enough information",
    "there's no information", "there isn't enough information", "no information is available",
    "no information about", "no relevant information", "not enough information",
    "insufficient information", "the question cannot be answered", "this question cannot be answered",
];

/// Names of what was retrieved, as a subject that can lack an answer.
#[rustfmt::skip]
pub(super) const RETRIEVED: &[&str] = &[
    "the context", "the contexts", "the passage", "the passages", "the provided", "the given",
    "the retrieved", "the available information", "the information provided", "the supplied",
    "the search results", "the sources",
];

/// Verbs with which what was retrieved lacks an answer.
#[rustfmt::skip]
pub(super) const LACKS: &[&str] = &[
    " not mention", " not contain", " not provide", " not include", " not specify", " not say",
    " not state", " not give", " not have", " not discuss", " not address", "n't mention", "n't contain",
    "n't provide", "n't include", "n't specify", "n't say", "n't state", "n't give", "n't have",
    "n't discuss", "n't address",
];

/// Words behind which a refusal may go on to state something after all.
#[rustfmt::skip]
pub(super) const TURNS: &[&str] = &[
    " but ", " however ", " although ", " though ", " because ", " since ", " except ", " only that ", ";",
];

/// Turns that also join nouns: `taxes and fees`.
#[rustfmt::skip]
pub(super) const JOINS: &[&str] = &[" and ", " so "];

/// First words of questions that are put indirectly: `… and where he is from`.
#[rustfmt::skip]
pub(super) const ASKED: &[&str] = &[
    "who", "what", "when", "where", "why", "which", "whose", "how", "whether", "if",
];

/// Finite verbs, which tell a clause from the rest of an enumeration: `and the fee is`, `and shipping`.
#[rustfmt::skip]
pub(super) const FINITE: &[&str] = &[
    "is", "are", "was", "were", "am", "be", "has", "have", "had", "does", "do", "did", "can", "cannot", "can't",
    "could", "will", "won't", "would", "must", "should", "may", "might", "isn't", "aren't", "wasn't", "weren't",
    "says", "states", "shows", "means", "costs", "takes", "gives", "needs", "requires", "allows",
    "includes", "contains", "applies", "starts", "ends", "begins", "remains", "becomes", "became", "made", "take",
    "it's", "that's", "there's", "he's", "she's", "they're", "you're", "we're", "i'm",
];

/// Beginnings of salutations.
#[rustfmt::skip]
pub(super) const SALUTATIONS: &[&str] = &[
    "dear", "hi", "hello", "hey", "greetings", "good morning", "good afternoon", "good evening",
    "good day", "to whom it may concern",
];

/// Closings of letters.
#[rustfmt::skip]
pub(super) const CLOSINGS: &[&str] = &[
    "kind regards", "kindest regards", "best regards", "warm regards", "warmest regards", "with kind regards",
    "with best regards", "regards", "best", "best wishes", "with best wishes", "all the best", "sincerely",
    "yours sincerely", "sincerely yours", "yours faithfully", "yours truly", "yours", "respectfully", "cordially",
    "warmly", "thanks", "many thanks", "thank you", "thanks again", "thank you again", "cheers", "take care",
    "with thanks",
];

/// First words of questions, and of clauses that turn a statement into one.
#[rustfmt::skip]
pub(super) const ASKING: &[&str] = &[
    "who", "what", "when", "where", "why", "which", "whose", "how", "do", "does", "did", "is", "are",
    "was", "were", "am", "have", "has", "had", "can", "could", "will", "would", "should", "shall", "may",
    "might", "isn't", "aren't", "don't", "doesn't", "didn't", "wasn't", "won't", "haven't", "hasn't",
    "can't", "wouldn't", "any", "anything", "right", "huh", "correct", "if", "and", "or", "so", "wanna",
];
