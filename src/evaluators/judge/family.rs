//! Which models come from one house: a judge prefers what its own family wrote (Panickssery et al., arXiv 2404.13076).

/// Words that a model's name begins with, or holds after a slash or dot, and the family that they stand for.
const FAMILIES: [(&str, &str); 24] = [
    ("gpt", "openai"),
    ("chatgpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude", "anthropic"),
    ("gemini", "google"),
    ("gemma", "google"),
    ("llama", "meta"),
    ("meta-llama", "meta"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("ministral", "mistral"),
    ("codestral", "mistral"),
    ("magistral", "mistral"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
    ("deepseek", "deepseek"),
    ("command", "cohere"),
    ("grok", "xai"),
    ("phi", "microsoft"),
    ("nova", "amazon"),
    ("granite", "ibm"),
    ("kimi", "moonshot"),
];

/// The family of a model by its name; none where the name tells nothing.
pub fn family(model: &str) -> Option<&'static str> {
    let name = model.to_lowercase();
    // Gateways put the house in front: `anthropic/claude-…`, `us.anthropic.claude-…`.
    let words = name.split(['/', '.', ':']).filter(|word| !word.is_empty());
    words.filter_map(of_word).next_back()
}

/// The family that a word of a name stands for.
fn of_word(word: &str) -> Option<&'static str> {
    let begins = |prefix: &str| {
        let rest = word.strip_prefix(prefix)?;
        (!rest.starts_with(char::is_alphabetic)).then_some(())
    };
    FAMILIES.iter().find(|(prefix, _)| begins(prefix).is_some()).map(|(_, family)| *family)
}

/// Whether two models are known to come from one house.
pub fn are_related(judge: &str, generator: &str) -> bool {
    family(judge).is_some_and(|judge| family(generator) == Some(judge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_names() {
        for (model, expected) in [
            ("gpt-4.1-mini-2025-04-14", Some("openai")),
            ("o3", Some("openai")),
            ("openai/gpt-oss-120b", Some("openai")),
            ("claude-sonnet-4-5", Some("anthropic")),
            ("us.anthropic.claude-3-5-haiku-20241022-v1:0", Some("anthropic")),
            ("meta-llama/Llama-3.3-70B-Instruct", Some("meta")),
            ("llama3.2:3b", Some("meta")),
            ("Qwen/Qwen2.5-7B-Instruct", Some("qwen")),
            ("our-own-model", None),
            ("omega", None),
            ("philosopher", None),
            ("", None),
        ] {
            assert_eq!(family(model), expected, "{model}");
        }
        assert!(are_related("gpt-4.1", "gpt-5-mini") && !are_related("gpt-4.1", "claude-opus-4"));
        assert!(!are_related("ours", "ours"), "what is not known is not claimed");
    }
}
